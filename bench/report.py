"""Tables as text, as JSON and as Markdown."""

import unicodedata
from pathlib import Path

from common import Figure

BEGIN = "<!-- written by `python3 bench/run.py --docs` -->"
END = "<!-- end -->"


def number(value):
    """Three digits that mean something."""
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
    )


def cell(value):
    return number(value.median) if isinstance(value, Figure) else value


def judged(value):
    """A figure with how far its rounds lie apart."""
    return f"{cell(value)} ({number(min(value.rounds))}–{number(max(value.rounds))})"


def verdict(row):
    if not row.is_aimed:
        return ""
    return "ok" if row.is_met else "missed"


def grid(table):
    """Head and body as text; the columns of targets only where there are any."""
    aimed = any(row.is_aimed for row in table.rows)
    lines = [table.columns + (["target", ""] if aimed else [])]
    for row in table.rows:
        cells = [cell(value) for value in row.cells]
        if row.is_aimed:
            cells[-1] = judged(row.cells[-1])
        lines.append([row.name, *cells] + ([row.target, verdict(row)] if aimed else []))
    return lines


def width(text):
    return sum(not unicodedata.combining(char) for char in text)


def as_text(letter, table):
    lines = grid(table)
    widths = [max(map(width, column)) for column in zip(*lines)]
    text = [f"({letter}) {table.title}"]
    for line in lines:
        first, *rest = (
            " " * (size - width(word)) + word for word, size in zip(line, widths)
        )
        text.append(
            "  "
            + "  ".join([line[0] + " " * (widths[0] - width(line[0])), *rest]).rstrip()
        )
    return "\n".join(text) + "\n"


def as_markdown(letter, table):
    head, *body = grid(table)
    text = [f"### ({letter}) {table.title}", ""]
    text += ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    text += ["| " + " | ".join(line) + " |" for line in body]
    text += ["", *table.notes]
    return "\n".join(text).rstrip() + "\n"


def as_json(table):
    rows = []
    for row in table.rows:
        one = {"name": row.name}
        for column, value in zip(table.columns[1:], row.cells, strict=True):
            one[column] = (
                {"median": value.median, "rounds": value.rounds}
                if isinstance(value, Figure)
                else value
            )
        if row.is_aimed:
            bound = "at_most" if row.at_most is not None else "at_least"
            one["target"] = {bound: getattr(row, bound), "met": row.is_met}
        rows.append(one)
    return {"title": table.title, "rows": rows, "notes": table.notes}


def machine_line(about):
    machine = about["machine"]
    virtual = ", a virtual machine" if machine["virtual"] else ""
    return (
        f"{about['date']}: {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB{virtual}, "
        f"{machine['kernel']}; {', '.join(about['versions'])}."
    )


def write_docs(path, about, tables):
    """Replaces what stands between the two marks of the page."""
    path = Path(path)
    text = path.read_text()
    before, found, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"{path} lacks the lines {BEGIN} and {END}")
    parts = [
        machine_line(about) + "\n",
        *(as_markdown(letter, table) for letter, table in tables.items()),
    ]
    path.write_text(before + BEGIN + "\n" + "\n".join(parts) + END + after)
