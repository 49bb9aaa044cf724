"""Binary files as the system has them, small, and the same bytes from every Python.

Nothing here compresses: a stored block is as valid a .zst, .xz or .gz as a packed one, and its
bytes do not depend on the version of a library.
"""

import json
import struct
import zlib

X86_64, AARCH64 = 62, 183
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}

SHT_PROGBITS, SHT_STRTAB, SHT_DYNAMIC, SHT_NOTE = 1, 3, 6, 7
DT_NULL, DT_RPATH = 0, 15
SHF_ALLOC = 2
ET_REL, ET_DYN = 1, 3


def _aligned(data, to):
    return data + b"\0" * (-len(data) % to)


def elf(sections, machine=X86_64, kind=ET_DYN):
    """Make a 64-bit little-endian ELF file of (name, type, bytes), with a PT_NOTE for each note."""
    names = b"\0"
    table = [struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    notes = [section for section in sections if section[1] == SHT_NOTE]
    has_notes = len(notes) if kind == ET_DYN else 0
    body = b""
    start = 64 + 56 * has_notes
    headers = b""
    for name, of_type, data in [*sections, (".shstrtab", SHT_STRTAB, None)]:
        at_name = len(names)
        names += name.encode() + b"\0"
        body = _aligned(body, 8)
        at = start + len(body)
        data = names if data is None else data
        body += data
        flags = 0 if of_type == SHT_STRTAB else SHF_ALLOC
        table.append(
            struct.pack("<IIQQQQIIQQ", at_name, of_type, flags, at, at, len(data), 0, 0, 4, 0)
        )
        if of_type == SHT_NOTE and has_notes:
            headers += struct.pack("<IIQQQQQQ", 4, 4, at, at, at, len(data), len(data), 4)
    body = _aligned(body, 8)
    at_table = start + len(body)
    ident = b"\x7fELF" + bytes([2, 1, 1, 0]) + b"\0" * 8
    at_headers = 64 if has_notes else 0
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH",
        kind,
        machine,
        1,
        0,
        at_headers,
        at_table,
        0,
        64,
        56 if has_notes else 0,
        has_notes,
        64,
        len(table),
        len(table) - 1,
    )
    return header + headers + body + b"".join(table)


def note(owner, of_type, text):
    """Make the content of a note section."""
    owner = owner.encode() + b"\0"
    text = text.encode()
    sizes = struct.pack("<III", len(owner), len(text), of_type)
    return sizes + _aligned(owner, 4) + _aligned(text, 4)


def library(strings, arch="x86_64", compatibility=None, has_rpath=False):
    """Make a shared library: its read-only strings and, for libcuda, its compatibility note."""
    rodata = b"\0" + b"".join(text.encode() + b"\0" for text in strings)
    sections = [(".rodata", SHT_PROGBITS, rodata)]
    if compatibility:
        text = json.dumps(compatibility, separators=(",", ":"))
        content = note("NVIDIA Corporation", 1, text)
        sections.insert(0, (".note.cuda.fwd_compatibility", SHT_NOTE, content))
    if has_rpath:
        dynamic = struct.pack("<QQQQ", DT_RPATH, 1, DT_NULL, 0)
        sections.append((".dynamic", SHT_DYNAMIC, dynamic))
    return elf(sections, MACHINES[arch])


def kernel_module(fields, arch="x86_64", is_signed=False):
    """Make a .ko: its .modinfo, and what signing appends."""
    modinfo = b"".join(f"{name}={value}".encode() + b"\0" for name, value in fields)
    data = elf([(".modinfo", SHT_PROGBITS, modinfo)], MACHINES[arch], ET_REL)
    if is_signed:
        signature = b"\x30\x82" + bytes(range(62))
        # struct module_signature: algo, hash, id_type (PKCS#7), lengths, padding, length
        data += signature + struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, len(signature))
        data += b"~Module signature appended~\n"
    return data


def gz(data):
    """Wrap bytes as .gz, in stored blocks."""
    out = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
    chunks = [data[at : at + 65535] for at in range(0, len(data), 65535)] or [b""]
    for index, chunk in enumerate(chunks):
        is_last = index == len(chunks) - 1
        out += struct.pack("<BHH", is_last, len(chunk), len(chunk) ^ 0xFFFF) + chunk
    return out + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def zst(data):
    """Wrap at most 64 KiB as .zst, in one raw block."""
    if len(data) < 256:
        size = struct.pack("<BB", 0x20, len(data))
    else:
        size = struct.pack("<BH", 0x60, len(data) - 256)
    block = (len(data) << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd" + size + block + data


def xz(data):
    """Wrap at most 64 KiB as .xz: one stored LZMA2 chunk, and a CRC32 as the kernel wants it."""
    flags = b"\0\x01"
    header = b"\xfd7zXZ\0" + flags + _crc(flags)
    # one filter: LZMA2 with a dictionary of 1 MiB
    block = bytes([2, 0, 0x21, 1, 0x10, 0, 0, 0])
    block += _crc(block)
    chunk = b"\x01" + struct.pack(">H", len(data) - 1) + data + b"\0"
    content = _aligned(block + chunk, 4) + _crc(data)
    unpadded = len(block) + len(chunk) + 4
    index = _aligned(b"\0\x01" + _varint(unpadded) + _varint(len(data)), 4)
    index += _crc(index)
    footer = struct.pack("<I", len(index) // 4 - 1) + flags
    return header + content + index + _crc(footer) + footer + b"YZ"


def _crc(data):
    return struct.pack("<I", zlib.crc32(data))


def _varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


# What glibc writes for a 64-bit library of the machine, and for a 32-bit one beside it.
CACHE_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03, "i386": 0x0003}


def linker_cache(entries):
    """Make /etc/ld.so.cache of (name, path, arch) in glibc's new form (glibc-ld.so.cache1.1)."""
    entries = sorted(entries, reverse=True)
    start = 48 + 24 * len(entries)
    table, strings = b"", b""
    for name, path, arch in entries:
        at_path = start + len(strings)
        strings += path.encode() + b"\0"
        at_name = start + len(strings)
        strings += name.encode() + b"\0"
        table += struct.pack("<iIIIQ", CACHE_FLAGS[arch], at_name, at_path, 0, 0)
    header = b"glibc-ld.so.cache" + b"1.1"
    header += struct.pack("<IIB3xI12x", len(entries), len(strings), 2, 0)
    return header + table + strings


def pci_config(vendor, device, of_class, is_off_bus=False):
    """Make the 64 bytes of configuration space that everybody may read."""
    if is_off_bus:
        return b"\xff" * 64
    # ids, command, status, revision and class, cache line, header type 0
    head = struct.pack("<HHHH", vendor, device, 0x0406, 0x0010)
    head += bytes([0xA1]) + of_class.to_bytes(3, "little") + bytes([0x10, 0, 0, 0])
    return head + b"\0" * (64 - len(head))


def efi_variable(value):
    """Make a file of efivars: its attributes (boot and runtime), then the value."""
    return struct.pack("<I", 6) + value
