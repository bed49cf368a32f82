"""Modules that no assembler would make: broken, lying or far too large, built byte by byte.

Format: WebAssembly core specification, section 5. Everything here is deterministic, so a module that makes
trouble can be made again.
"""

import random

MAGIC = b"\0asm"
HEADER = MAGIC + b"\x01\0\0\0"
COMPONENT = MAGIC + b"\x0d\0\x01\0"

CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA = range(12)
TAG = 13
SECTIONS = range(TYPE, DATA + 1)

I32, I64, FUNCREF = 0x7F, 0x7E, 0x70
NO_MAXIMUM, UNREACHABLE, END = b"\x00", b"\x00", b"\x0b"
NOTHING_TO_NOTHING = b"\x60\0\0"


def leb(n):
    """An unsigned LEB128 number."""
    out = bytearray()
    while True:
        out.append(n & 0x7F | (0x80 if n > 0x7F else 0))
        n >>= 7
        if not n:
            return bytes(out)


def name(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return leb(len(raw)) + raw


def vector(items):
    items = list(items)
    return leb(len(items)) + b"".join(items)


def section(number, payload):
    return bytes([number]) + leb(len(payload)) + payload


def custom(title, payload):
    return section(CUSTOM, name(title) + payload)


def body(code, local_groups=b"\0"):
    """A function body, its size in front and its end behind."""
    inside = local_groups + code + END
    return leb(len(inside)) + inside


def module(*bodies, types=(NOTHING_TO_NOTHING,), before=b"", after=b""):
    """A module of functions without arguments, the first exported as `_start`, with a page of memory.
    `before` and `after` are further sections that belong before the exports or behind the code."""
    return (
        HEADER
        + section(TYPE, vector(types))
        + section(FUNCTION, leb(len(bodies)) + b"\0" * len(bodies))
        + (before or section(MEMORY, b"\x01" + NO_MAXIMUM + leb(1)))
        + section(EXPORT, vector([name("_start") + b"\0\0"]))
        + section(CODE, vector(bodies))
        + after
    )


def unique(wasm, tag):
    """The same module under another SHA-256."""
    return wasm + custom("unique", str(tag).encode())


def padded(wasm, size):
    """The same module grown to exactly `size` bytes by a custom section."""
    head = 1 + 5 + 4  # id, length in five bytes, the name "pad"
    payload = size - len(wasm) - head
    length = payload + 4
    five = bytes([length >> shift & 0x7F | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7)])
    grown = wasm + bytes([CUSTOM]) + five + name("pad") + bytes(payload)
    assert len(grown) == size
    return grown


# --- broken -------------------------------------------------------------------------------------


def huge_count(number):
    """Section `number` says that it holds 2^32-1 things, and holds none."""
    return HEADER + section(number, leb(0xFFFFFFFF))


def huge_section():
    """A section that says it is 4 GiB long."""
    return HEADER + bytes([TYPE]) + leb(0xFFFFFFFF)


def endless_leb():
    """A section length of which every byte says that another follows."""
    return HEADER + bytes([TYPE]) + b"\x80" * 64


def wrong_order():
    return HEADER + section(CODE, b"\0") + section(TYPE, b"\0")


def section_twice():
    return HEADER + section(TYPE, b"\0") + section(TYPE, b"\0")


def unknown_section():
    return HEADER + section(77, b"what")


def wrong_version():
    return MAGIC + b"\x02\0\0\0"


def function_without_body():
    return HEADER + section(TYPE, vector([NOTHING_TO_NOTHING])) + section(FUNCTION, b"\x01\0")


def start_of_nobody():
    """Its start function has an index that does not exist."""
    return HEADER + section(START, leb(1000000))


def same_export_twice():
    return (
        HEADER
        + section(TYPE, vector([NOTHING_TO_NOTHING]))
        + section(FUNCTION, b"\x01\0")
        + section(EXPORT, vector([name("_start") + b"\0\0"] * 2))
        + section(CODE, vector([body(b"")]))
    )


def wrong_types():
    """Well-formed, but adds what is not on the stack."""
    return module(body(b"\x6a\x1a"))


def body_without_end():
    return module(leb(2) + b"\0\x01")


def name_not_utf8():
    return HEADER + section(EXPORT, vector([name(b"\xff\xfe\xfd") + b"\0\0"]))


def too_many_locals_to_count():
    """Two groups of 2^32-1 locals: their sum does not fit 32 bits."""
    group = leb(0xFFFFFFFF) + bytes([I32])
    return module(body(b"", leb(2) + group + group))


def random_bytes(size, seed):
    return random.Random(seed).randbytes(size)


def random_behind_header(size, seed):
    return HEADER + random_bytes(size, seed)


def mutated(wasm, seed):
    """The module with one to eight of its bytes changed, the header left alone."""
    rng = random.Random(seed)
    changed = bytearray(wasm)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(HEADER), len(changed))] = rng.randrange(256)
    return bytes(changed)


# --- far too many -------------------------------------------------------------------------------


def functions(count):
    return module(*[body(b"")] * count)


def types(count):
    return module(body(b""), types=[NOTHING_TO_NOTHING] * count)


def memories(count):
    memory = NO_MAXIMUM + b"\0"
    return module(body(b""), before=section(MEMORY, vector([memory] * count)))


def tables(count):
    table = bytes([FUNCREF]) + NO_MAXIMUM + b"\x01"
    return module(body(b""), before=section(TABLE, vector([table] * count)))


def global_variables(count):
    variable = bytes([I32, 1]) + b"\x41\0" + END
    return module(body(b""), before=section(GLOBAL, vector([variable] * count)))


def exports(count):
    return (
        HEADER
        + section(TYPE, vector([NOTHING_TO_NOTHING]))
        + section(FUNCTION, b"\x01\0")
        + section(EXPORT, vector(name(f"export{i}") + b"\0\0" for i in range(count)))
        + section(CODE, vector([body(b"")]))
    )


def imports(count):
    one = name("wasi_snapshot_preview1") + name("sched_yield") + b"\0\0"
    return (
        HEADER
        + section(TYPE, vector([b"\x60\0\x01" + bytes([I32])]))
        + section(IMPORT, vector([one] * count))
        + section(EXPORT, vector([name("_start") + b"\0\0"]))
    )


def data_segments(count):
    """Active segments of one byte each, all for the same place."""
    return module(body(b""), after=section(DATA, vector([b"\0\x41\0" + END + b"\x01x"] * count)))


def local_variables(count):
    return module(body(b"", b"\x01" + leb(count) + bytes([I32])))


def local_groups(count):
    """As many groups of locals as locals: the declarations themselves are large."""
    return module(body(b"", leb(count) + b"\x01\x7f" * count))


# --- hard to compile ----------------------------------------------------------------------------


def nested_blocks(depth):
    return module(body(b"\x02\x40" * depth + END * depth))


def nested_loops_and_ifs(depth):
    """Each level an if with an else in a loop: every end joins two ways."""
    opened = b"\x03\x40\x41\x01\x04\x40"
    return module(body(opened * depth + b"\x05\x01\x0b\x0b" * depth))


def jump_table(targets):
    """One br_table with that many targets."""
    return module(body(b"\x02\x40\x41\0\x0e" + leb(targets) + b"\0" * targets + b"\0" + END))


def jump_tables(count, targets):
    """Many jump tables, each to as many blocks as there are."""
    table = b"\x41\x03\x0e" + leb(targets) + b"".join(leb(i) for i in range(targets)) + b"\0"
    one = b"\x02\x40" * targets + table + END * targets
    return module(body(one * count))


def loops_and_locals(loops, variables):
    """Loops one in the other, all changing all variables: as many meeting points of values as the product
    of the two, from a body as long as their sum. The entry point is empty. 1000 and 1000 make 16 KB that
    take minutes to compile; 150 and 150 are about a second."""
    touch = b"".join(b"\x20" + leb(i) + b"\x41\x01\x6a\x21" + leb(i) for i in range(variables))
    code = b"\x03\x40" * loops + touch + b"\x20\x00\x0d\x00\x0b" * loops
    return module(body(b""), body(code, b"\x01" + leb(variables) + bytes([I32])))


def many_live_values(count):
    """Puts `count` values on the stack before the first is used."""
    push = b"\x20\x00\x41\x01\x6a\x22\x00"
    return module(body(push * count + b"\x73" * (count - 1) + b"\x1a", b"\x01\x01\x7f"))


def much_arithmetic(count, seed, per_function=200):
    """`count` functions that never run but have to be compiled: some milliseconds each hundred. Every
    seed gives another module."""
    rng = random.Random(seed)
    bodies = [body(b"")]
    for _ in range(count):
        code = b"".join(
            b"\x20\x00\x41" + leb(rng.randrange(64)) + rng.choice((b"\x6a", b"\x6c", b"\x73")) + b"\x21\x00"
            for _ in range(per_function)
        )
        bodies.append(body(code, b"\x01\x01\x7f"))
    return module(*bodies)


# --- names --------------------------------------------------------------------------------------


def trap_under_a_name(title):
    """Traps in a function that the name section calls `title`."""
    names = section(CUSTOM, name("name") + b"\x01" + sized(vector([b"\0" + name(title)])))
    return module(body(UNREACHABLE), after=names)


def sized(payload):
    return leb(len(payload)) + payload


def broken_name_section():
    """A name section that lies about its lengths; names are no part of what makes a module valid."""
    return module(body(b""), after=custom("name", b"\x01" + leb(0xFFFFFF) + leb(0xFFFFFFFF) + b"\xff" * 20))
