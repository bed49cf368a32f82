/* The intrusive list. */
#include "../unit.h"

#include "base/list.h"

struct item {
    int number;
    struct list link;
};

static struct list head;
static struct item items[5];

static int setup(void **state)
{
    (void)state;
    list_init(&head);
    for (int i = 0; i < (int)LENGTH_OF(items); i++) {
        items[i].number = i;
        list_init(&items[i].link);
    }
    return 0;
}

static void expect_order(const char *digits)
{
    char seen[LENGTH_OF(items) + 1] = {0};
    size_t count = 0;
    LIST_EACH(link, &head)
    seen[count++] = (char)('0' + LIST_ENTRY(link, struct item, link)->number);
    assert_string_equal(seen, digits);
    for (struct list *l = head.next; l != &head; l = l->next)
        assert_ptr_equal(l->next->prev, l);
}

static void test_order(void **state)
{
    (void)state;
    assert_true(list_is_empty(&head));
    expect_order("");
    list_push_back(&head, &items[1].link);
    list_push_back(&head, &items[2].link);
    list_push_front(&head, &items[0].link);
    expect_order("012");
    list_remove(&items[1].link);
    expect_order("02");
    list_remove(&items[1].link); /* is in no list now */
    expect_order("02");
    list_push_back(&head, &items[1].link);
    expect_order("021");
    assert_ptr_equal(list_pop_front(&head), &items[0].link);
    assert_ptr_equal(list_pop_front(&head), &items[2].link);
    assert_ptr_equal(list_pop_front(&head), &items[1].link);
    assert_null(list_pop_front(&head));
    assert_true(list_is_empty(&head));
    assert_true(list_is_empty(&items[1].link));
}

static void test_removal_while_walking(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH_OF(items); i++)
        list_push_back(&head, &items[i].link);
    LIST_EACH(link, &head)
    {
        struct item *item = LIST_ENTRY(link, struct item, link);
        if (item->number % 2 == 0)
            list_remove(link);
    }
    expect_order("13");
    LIST_EACH(link, &head)
    list_remove(link);
    expect_order("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_order, setup),
        cmocka_unit_test_setup(test_removal_while_walking, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
