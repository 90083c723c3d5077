"""Palisade's commands for gdb: on a guest that runs in QEMU, or on a core that `dump-guest-memory` wrote.

Everything is read from the kernel's memory by the table at PALISADE_LAYOUT and the rings by PALISADE_TRACE; what their
words mean comes from the file that the variable $palisade_tables names, which xtask writes from its own definitions.
"""

import json
import os
import struct

import gdb

TABLES = json.load(open(os.environ["PALISADE_TABLES"]))
STATES = TABLES["states"]
HELD, NAME = TABLES["held"], TABLES["name"]
HEAD_STRIDE, ENTRY = TABLES["head_stride"], TABLES["entry"]
KINDS = {kind["kind"]: kind for kind in TABLES["events"]}


def read(address, length):
    return bytes(gdb.selected_inferior().read_memory(address, length))


def u64(address):
    return struct.unpack("<Q", read(address, 8))[0]


def u32(address):
    return struct.unpack("<I", read(address, 4))[0]


def table(symbol, names):
    """The words at `symbol`, by name; the first must be `magic`."""
    gdb.execute("set language c", to_string=True)
    address = int(gdb.parse_and_eval("&" + symbol))
    words = dict(zip(names, struct.unpack("<%dQ" % len(names), read(address, 8 * len(names)))))
    magic = TABLES["magic"][symbol]
    if words["magic"] != magic:
        raise gdb.GdbError("the kernel has not come so far that %s is filled" % symbol)
    return words


def layout():
    return table("PALISADE_LAYOUT", TABLES["layout"])


def cpus(words):
    """Number and address of each CPU."""
    for number in range(words["cpus_max"]):
        address = u64(words["cpus"] + 8 * number)
        if address:
            yield number, address


def threads(words):
    at = u64(words["threads"])
    while at:
        yield at
        at = u64(at + words["thread_next"])


def thread_name(words, thread):
    length = min(u64(thread + words["thread_name_length"]), NAME)
    return read(thread + words["thread_name"], length).decode("utf-8", "replace")


def cpu_set(bits):
    members = [cpu for cpu in range(64) if bits >> cpu & 1]
    spans = []
    for cpu in members:
        if spans and spans[-1][1] == cpu - 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(a) if a == b else "%d-%d" % (a, b) for a, b in spans) or "none"


def slot(bits):
    kib = 16 << (bits >> 16 & 0x1F)
    size = "%dK" % kib if kib < 1024 else "%dM" % (kib >> 10)
    return "%s/%d" % (size, (bits & 0xFFFF) - 1)


def request(words, cpu):
    """The open request of a CPU: generation and targets; None if there is none."""
    word = u64(cpu + words["cpu_request"])
    return (word & 0xFFFFFFFF, u64(cpu + words["cpu_targets"])) if word else None


def text(address):
    """The text whose pointer and length are there."""
    return read(u64(address), min(u64(address + 8), 64)).decode("utf-8", "replace")


def taken_at(words, site):
    """File and line of a place in the source, if it was kept."""
    if not site or words["site_file"] == words["site_line"]:
        return ""
    return " (taken at %s:%d)" % (text(site + words["site_file"]), u32(site + words["site_line"]))


class Command(gdb.Command):
    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_STATUS)

    def invoke(self, argument, _from_tty):
        try:
            self.show(argument.split())
        except gdb.MemoryError as error:
            raise gdb.GdbError("memory cannot be read: %s" % error)


class Cpus(Command):
    """palisade-cpus: what each CPU is at: thread, depths, locks held, open request."""

    def show(self, _words):
        at = layout()
        for number, cpu in cpus(at):
            thread = u64(cpu + at["cpu_current"])
            depth = struct.unpack("<i", read(cpu + at["cpu_interrupt_depth"], 4))[0] + 1
            print(
                "CPU %d: thread '%s'#%d, interrupts %d deep, masked %d deep, preemption off %d deep, shields %d"
                % (
                    number,
                    thread_name(at, thread),
                    u32(thread + at["thread_number"]),
                    depth,
                    u32(cpu + at["cpu_masked_depth"]),
                    u32(thread + at["thread_preempt_off"]),
                    u32(thread + at["thread_shields"]),
                )
            )
            held = []
            for place in range(min(u32(cpu + at["cpu_held_count"]), HELD)):
                name = text(u64(cpu + at["cpu_held"] + 8 * place))
                held.append("'%s'%s" % (name, taken_at(at, u64(cpu + at["cpu_held_sites"] + 8 * place))))
            if held:
                print("    holds " + ", ".join(held))
            open_request = request(at, cpu)
            if open_request:
                print("    waits for its request %d:%d to %s" % (number, open_request[0], cpu_set(open_request[1])))


class Threads(Command):
    """palisade-threads [all]: the threads that live; with `all`, free objects too."""

    def show(self, words):
        at = layout()
        for thread in sorted(threads(at), key=lambda thread: u32(thread + at["thread_number"])):
            state = STATES[min(read(thread + at["thread_state"], 1)[0], len(STATES) - 1)]
            if state == "free" and "all" not in words:
                continue
            stack = u32(thread + at["thread_stack"])
            print(
                "#%-6d %-24s %-8s CPU %-3d stack %-8s object %#x"
                % (
                    u32(thread + at["thread_number"]),
                    thread_name(at, thread),
                    state,
                    u32(thread + at["thread_last_cpu"]),
                    slot(stack) if stack else "none",
                    thread,
                )
            )


class Pending(Command):
    """palisade-pending: the stacks that were left and wait to be reaped."""

    def show(self, _words):
        at = layout()
        lists = [apart * at["pending_apart"] for apart in range(at["pending_lists"])]
        counts = [min(u64(at["pending_count"] + apart), 64) for apart in lists]
        print("%d pending" % sum(counts))
        for apart, count in zip(lists, counts):
            for place in range(count):
                print("    stack " + slot(u32(u64(at["pending"] + apart + 8 * place))))


class Requests(Command):
    """palisade-requests: the shootdown requests that are open."""

    def show(self, _words):
        at = layout()
        found = False
        for number, cpu in cpus(at):
            open_request = request(at, cpu)
            if open_request:
                found = True
                print("request %d:%d to %s" % (number, open_request[0], cpu_set(open_request[1])))
        if not found:
            print("no request is open")


class Trace(Command):
    """palisade-trace [N] [CPU]: the last N events (20), of all CPUs or of one."""

    def show(self, words):
        count = int(words[0]) if words else 20
        only = int(words[1]) if len(words) > 1 else None
        rings = table("PALISADE_TRACE", TABLES["rings"])
        names = {}
        try:
            at = layout()
            names = {u32(thread + at["thread_number"]): thread_name(at, thread) for thread in threads(at)}
        except gdb.GdbError:
            pass
        events = []
        for cpu in range(rings["cpus"]):
            if only is None or cpu == only:
                events += self.ring(rings, cpu, count)
        events.sort(key=lambda event: event[0])
        if not events:
            print("no event is recorded")
            return
        for time, cpu, thread, kind, a, b in events[-count:]:
            microseconds = time * 1000000 / rings["tsc_hz"]
            info = KINDS.get(kind)
            name = info["name"] if info else "kind %d" % kind
            fields = "".join(
                " %s=%s" % (field["name"], self.value(field, value, names))
                for field, value in ((info["a"], a), (info["b"], b))
                if field["name"]
            ) if info else " %#x %#x" % (a, b)
            who = "%s#%d" % (names.get(thread, ""), thread)
            print("%16.3f us  CPU %-3d %-18s %s%s" % (microseconds, cpu, who, name, fields))

    @staticmethod
    def value(field, value, names):
        kind = field["kind"]
        if kind == "Cpus":
            return cpu_set(value)
        if kind == "Slot":
            return slot(value)
        if kind == "Thread":
            return "%s#%d" % (names.get(value, ""), value)
        if kind in ("Address", "Vector"):
            return "%#x" % value
        if kind in ("Text", "TextHead"):
            return value.to_bytes(8, "little").rstrip(b"\0").decode("utf-8", "replace")
        if kind == "Name" and value < len(field["names"]):
            return field["names"][value]
        return str(value)

    @staticmethod
    def ring(rings, cpu, count):
        entries = rings["entries"]
        head = u64(rings["heads"] + cpu * HEAD_STRIDE)
        first = max(0, head - min(count, entries))
        found = []
        for index in range(first, head):
            at = rings["rings"] + (cpu * entries + index % entries) * ENTRY
            time, stamp, who, b = struct.unpack("<4Q", read(at, ENTRY))
            if stamp & 0xFFFFFFFF == (index & 0xFFFFFFFF) | 1 << 31:
                found.append((time, cpu, who & 0xFFFFFFFF, stamp >> 32 & 0xFF, who >> 32, b))
        return found


Cpus("palisade-cpus")
Threads("palisade-threads")
Pending("palisade-pending")
Requests("palisade-requests")
Trace("palisade-trace")
print("Palisade: palisade-cpus palisade-threads palisade-pending palisade-requests palisade-trace (help NAME tells more)")
