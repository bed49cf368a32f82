/* An intrusive doubly linked list with a head; a link not in a list points at itself. */
#ifndef WW_BASE_LIST_H
#define WW_BASE_LIST_H

#include "base/base.h"

struct list {
    struct list *next;
    struct list *prev;
};

#define LIST_ENTRY(link, type, member) CONTAINER_OF(link, type, member)
/* Walks the links; the one at hand may be removed. */
#define LIST_EACH(link, head)                                                         \
    for (struct list *link = (head)->next, *link##_next = link->next; link != (head); \
         link = link##_next, link##_next = link->next)

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_between(struct list *l, struct list *prev, struct list *next)
{
    l->prev = prev;
    l->next = next;
    prev->next = l;
    next->prev = l;
}

static inline void list_push_back(struct list *head, struct list *l)
{
    list_insert_between(l, head->prev, head);
}

static inline void list_push_front(struct list *head, struct list *l)
{
    list_insert_between(l, head, head->next);
}

/* Fine on a link that is in no list. */
static inline void list_remove(struct list *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

/* The first link, removed; NULL when empty. */
static inline struct list *list_pop_front(struct list *head)
{
    struct list *l = head->next;
    if (l == head)
        return NULL;
    list_remove(l);
    return l;
}

#endif
