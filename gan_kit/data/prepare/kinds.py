"""What a file is, by its first bytes; its name is asked only where they say too little (TGA, raw photographs)."""

from __future__ import annotations

import bz2
import codecs
import lzma
import os
import re
import zlib

__all__ = [
    "ARCHIVES", "HEAD_BYTES", "IMAGES", "SOUNDS",
    "group_of", "group_of_name", "junk_of_name", "kind_of", "says", "suffix_of",
]  # fmt: skip

HEAD_BYTES = 4096  # enough for the second frame of an MP3 and the first header inside a compressed tar


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Named as Pillow names the format, in lower case
IMAGES = _set(
    "avif blp bmp cur dcx dds dib fits fli ftex gbr gif heif icns ico im jpeg jpeg2000 jxl mcidas msp pcd pcx pixar "
    "png ppm psd qoi raw sgi spider sun tga tiff webp xbm xcf xpm xvthumb"
)
SOUNDS = _set("aac aiff amr ape au avr caf dsf flac ircam m4a mp3 nist ogg paf pvf rf64 svx voc w64 wav wma wv xi")
ARCHIVES = _set("zip tar tar.gz tar.bz2 tar.xz")  # those that scan opens
_VIDEOS = _set("3gp avi flv mkv mov mp4 mpeg ogv webm wmv")
_GROUPS = {
    "image": IMAGES,
    "audio": SOUNDS,
    "video": _VIDEOS,
    "archive": ARCHIVES | {"7z", "rar", "zst"},
}
_GROUP_OF = {kind: group for group, kinds in _GROUPS.items() for kind in kinds}
_IMAGE_NAMES = _set(
    "apng avif bmp dds dib fits gbr gif heic heif hif icns ico j2k jfif jp2 jpe jpeg jpf jpg jpx jxl pbm pcx pfm pgm "
    "png pnm ppm psd qoi ras rgb sgi tga tif tiff webp xbm xpm"
)
_SOUND_NAMES = _set(
    "aac aif aifc aiff amr ape au caf flac m4a mp2 mp3 oga ogg opus rf64 sph snd voc w64 wav wave wma wv"
)
# These are TIFFs whose first page is a thumbnail: decoded as TIFF they would give a stamp of 160 pixels without a word
_RAW_SUFFIXES = _set(".3fr .arw .cr2 .dng .erf .kdc .nef .nrw .pef .sr2 .srw")
_SYSTEM_NAMES = _set(".ds_store $recycle.bin @eadir __macosx desktop.ini ehthumbs.db lost+found thumbs.db") | {
    "icon\r",
    "system volume information",
}
_BACKUP_SUFFIXES = _set(".bak .crdownload .orig .part .partial .swo .swp .tmp")

_MAGIC: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("jpeg", (b"\xff\xd8\xff",)),
    ("png", (b"\x89PNG\r\n\x1a\n",)),
    ("gif", (b"GIF87a", b"GIF89a")),
    ("flac", (b"fLaC",)),
    ("tiff", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("psd", (b"8BPS",)),
    ("jpeg2000", (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    ("jxl", (b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a")),
    ("qoi", (b"qoif",)),
    ("dds", (b"DDS ",)),
    ("icns", (b"icns",)),
    ("xcf", (b"gimp xcf",)),
    ("blp", (b"BLP1", b"BLP2")),
    ("fits", (b"SIMPLE  =",)),
    ("sgi", (b"\x01\xda\x00", b"\x01\xda\x01")),
    ("sun", (b"\x59\xa6\x6a\x95",)),
    ("dcx", (b"\xb1\x68\xde\x3a",)),
    ("xpm", (b"/* XPM */",)),
    ("ftex", (b"FTEX",)),
    ("im", (b"Image type: ",)),
    ("mcidas", (b"\0\0\0\0\0\0\0\x04",)),
    ("msp", (b"DanM", b"LinS")),
    ("pixar", (b"\x80\xe8\0\0",)),
    ("xvthumb", (b"P7 332",)),
    ("raw", (b"FUJIFILMCCD-RAW", b"IIRO", b"IIU\0")),
    ("rf64", (b"RF64", b"BW64")),
    ("w64", (b"riff\x2e\x91\xcf\x11",)),
    ("au", (b".snd", b"dns.")),
    ("caf", (b"caff",)),
    ("amr", (b"#!AMR",)),
    ("ape", (b"MAC ",)),
    ("wv", (b"wvpk",)),
    ("dsf", (b"DSD ",)),
    ("nist", (b"NIST_1A",)),
    ("voc", (b"Creative Voice File\x1a",)),
    ("pvf", (b"PVF1",)),
    ("paf", (b" paf", b"fap ")),
    ("avr", (b"2BIT",)),
    ("xi", (b"Extended Instrument: ",)),
    ("ircam", (b"\x64\xa3\x01\0", b"\x64\xa3\x02\0", b"\x64\xa3\x03\0", b"\0\x01\xa3\x64", b"\0\x02\xa3\x64")),
    ("mkv", (b"\x1aE\xdf\xa3",)),
    ("flv", (b"FLV\x01",)),
    ("mpeg", (b"\0\0\x01\xba", b"\0\0\x01\xb3")),
    ("zip", (b"PK\x05\x06", b"PK\x07\x08")),
    ("7z", (b"7z\xbc\xaf\x27\x1c",)),
    ("rar", (b"Rar!\x1a\x07",)),
    ("zst", (b"\x28\xb5\x2f\xfd",)),
    ("pdf", (b"%PDF-",)),
    ("eps", (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("wmf", (b"\xd7\xcd\xc6\x9a",)),
    ("midi", (b"MThd",)),
    ("npy", (b"\x93NUMPY",)),
    ("hdf5", (b"\x89HDF\r\n\x1a\n",)),
    ("sqlite", (b"SQLite format 3\0",)),
    ("parquet", (b"PAR1",)),
    ("program", (b"\x7fELF",)),
    ("pointer", (b"version https://git-lfs.github.com/", b"/annex/objects/")),
)

_SAID = {
    "": "of no known kind",
    "7z": "a 7z archive",
    "document": "an office document",
    "empty": "an empty file",
    "eps": "PostScript",
    "html": "an HTML page",
    "pointer": "a pointer of Git LFS or git-annex in place of the file",
    "program": "a program",
    "rar": "a RAR archive",
    "raw": "a raw photograph",
    "text": "plain text",
    "zeros": "nothing but zero bytes",
    "zst": "a zstd archive",
}


def kind_of(head: bytes, name: str = "") -> str:
    """The kind of a file that begins with `head` (its first HEAD_BYTES, or all of a smaller file).

    Pictures as Pillow names their format, in lower case (IMAGES; "heif" and "jxl" too, which need a plugin), SOUNDS,
    ARCHIVES, videos, "html", "xml", "svg", "json", "pdf", "eps", "text" and so on; "empty" for no bytes, "zeros" for
    nothing but zeros, "pointer" for what Git LFS leaves in place of a file, "" for what is not known.
    """
    if not head:
        return "empty"
    suffix = suffix_of(name)
    for kind, magic in _MAGIC:
        if head.startswith(magic):
            return _closer(kind, head, suffix)
    for look in (_riff, _iso_media, _packed, _bitmap, _mpeg_audio, _by_structure):
        if kind := look(head, suffix):
            return kind
    if not head.strip(b"\0"):
        return "zeros"
    return _written(head)


def group_of(kind: str) -> str:
    """ "image", "audio", "video", "archive", or "" """
    return _GROUP_OF.get(kind, "")


def group_of_name(name: str) -> str:
    """What the extension promises: "image", "audio" or "" """
    suffix = suffix_of(name)[1:]
    return "image" if suffix in _IMAGE_NAMES else "audio" if suffix in _SOUND_NAMES else ""


def junk_of_name(name: str, folder: bool = False) -> str:
    """ "system file", "hidden file" or "editor backup" for names that nobody means as data, "" for others"""
    if name.lower() in _SYSTEM_NAMES or name.startswith("._"):
        return "system folder" if folder else "system file"
    if name.startswith("."):
        return "hidden folder" if folder else "hidden file"
    if not folder and (name.endswith("~") or name.startswith(("~$", ".#")) or suffix_of(name) in _BACKUP_SUFFIXES):
        return "editor backup"
    return ""


def says(kind: str) -> str:
    """The kind in words, for a reason: "an HTML page", "a WAV sound" """
    if kind in _SAID:
        return _SAID[kind]
    noun = {"image": " picture", "audio": " sound", "video": " video", "archive": " archive"}.get(group_of(kind), "")
    if not noun:
        return kind.upper()
    vowel = kind[0] in "aeio" or (kind[0] == "m" and kind != "mov")  # as it is spoken: an MP3, an M4A
    return f"{'an' if vowel else 'a'} {kind.upper()}{noun}"


def suffix_of(name: str) -> str:
    """The extension of the last part of a path, lower case, with its dot; "" for none"""
    return os.path.splitext(name.rpartition("/")[2])[1].lower()


def _closer(kind: str, head: bytes, suffix: str) -> str:
    if kind == "tiff" and (suffix in _RAW_SUFFIXES or head[8:10] == b"CR"):
        return "raw"
    if kind == "mkv" and b"webm" in head[:64]:
        return "webm"
    return kind


def _riff(head: bytes, suffix: str) -> str:
    form = head[8:12]
    if head[:4] in (b"RIFF", b"RIFX"):
        return {b"WAVE": "wav", b"WEBP": "webp", b"AVI ": "avi"}.get(form, "")
    if head[:4] == b"FORM":
        return {b"AIFF": "aiff", b"AIFC": "aiff", b"8SVX": "svx", b"16SV": "svx"}.get(form, "")
    if head[:4] == b"OggS":
        return "ogv" if b"\x80theora" in head[:256] else "ogg"
    if head[:8] == b"\x30\x26\xb2\x75\x8e\x66\xcf\x11":  # ASF; a video has a stream of this type
        return "wmv" if b"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11" in head else "wma"
    return ""


def _iso_media(head: bytes, suffix: str) -> str:
    """ISO/IEC 14496-12: a box's size, "ftyp", the major brand, a version, compatible brands"""
    if head[4:8] in (b"moov", b"mdat", b"wide") and suffix in (".mov", ".mp4", ".qt"):
        return "mov"
    if head[4:8] != b"ftyp":
        return ""
    end = min(max(int.from_bytes(head[:4], "big"), 16), len(head))
    major = head[8:12]
    brands = {major, *(head[i : i + 4] for i in range(16, end, 4))}
    if major in (b"avif", b"avis") or (major in (b"mif1", b"msf1") and brands & {b"avif", b"avis"}):
        return "avif"
    if major in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"):
        return "heif"
    if major == b"crx ":
        return "raw"
    if major in (b"M4A ", b"M4B ", b"M4P ") or suffix in (".m4a", ".m4b"):
        return "m4a"
    if major == b"qt  ":
        return "mov"
    return "3gp" if major.startswith(b"3g") else "mp4"


def _packed(head: bytes, suffix: str) -> str:
    if head[:4] == b"PK\x03\x04":
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        document = first in (b"[Content_Types].xml", b"mimetype") or first.startswith(b"META-INF/")
        return "document" if document else "zip"
    if _is_tar(head):
        return "tar"
    if head[:3] == b"\x1f\x8b\x08":
        return "tar.gz" if _is_tar(_unpacked(zlib.decompressobj(31), head)) else "gz"
    if head[:6] == b"\xfd7zXZ\0":
        return "tar.xz" if _is_tar(_unpacked(lzma.LZMADecompressor(memlimit=1 << 28), head)) else "xz"
    if head[:3] == b"BZh" and head[4:10] == b"1AY&SY":
        # a whole block is needed to unpack its first byte, so that here a name has to do
        tar = _is_tar(_unpacked(bz2.BZ2Decompressor(), head)) or suffix in (".tbz", ".tbz2", ".bz2")
        return "tar.bz2" if tar else "bz2"
    return ""


def _unpacked(decompressor, head: bytes) -> bytes:  # type: ignore[no-untyped-def] # three classes of one shape
    try:
        return decompressor.decompress(head, 512)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""


def _is_tar(head: bytes) -> bool:
    """By the header's checksum, which the oldest tars have too: the sum of its bytes with the field itself as spaces"""
    if len(head) < 512 or not head[0]:
        return False
    try:
        told = int(head[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return False
    return told == sum(head[:148]) + 8 * 32 + sum(head[156:512])


_BITMAP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # the sizes that BMP's versions have


def _bitmap(head: bytes, suffix: str) -> str:
    """Kinds whose magic is two common letters: their header has to make sense as well"""
    if head[:2] == b"BM":
        return "bmp" if int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS else ""
    if re.match(rb"P([1-6]\s+[\d#]|7\s+(WIDTH|#)|[fF]\s+\d)", head):
        return "ppm"
    if head[:4] in (b"\0\0\1\0", b"\0\0\2\0"):
        count, reserved = int.from_bytes(head[4:6], "little"), head[9:10]
        return {1: "ico", 2: "cur"}[head[2]] if 0 < count < 1024 and reserved in (b"\0", b"\xff") else ""
    if re.match(rb"\s*(/\*.*?\*/\s*)?#define\s+\w*_?width\s+\d+\s+#define\s+\w*_?height\s", head, re.DOTALL):
        return "xbm"
    if head[4:6] in (b"\x11\xaf", b"\x12\xaf") and head[12:14] in (b"\x08\0", b"\0\0"):
        return "fli"
    return ""


def _mpeg_audio(head: bytes, suffix: str) -> str:
    """MPEG audio has no magic but 11 set bits: two frames must follow each other at the distance the first one tells"""
    start = 0
    if head[:3] == b"ID3" and len(head) >= 10:
        start = 10 + sum((b & 127) << shift for b, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        inside = head[start : start + 4]
        if not inside:  # a cover picture fills the head
            return {".flac": "flac", ".aac": "aac", ".aif": "aiff", ".aiff": "aiff"}.get(suffix, "mp3")
        return {b"fLaC": "flac", b"OggS": "ogg", b"MAC ": "ape"}.get(inside, "mp3")
    if suffix in (".mp3", ".mp2"):  # some begin with padding, or in the middle of a frame
        found = (i for i in range(len(head) - 3) if head[i] == 255 and _frame_bytes(head, i))
        start = next((i for i in found if _follows(head, i, certain=False)), 0)
    length = _frame_bytes(head, start)
    if not length or not _follows(head, start, certain=suffix not in (".mp3", ".mp2", ".aac")):
        return ""
    return "aac" if head[start + 1] & 0x06 == 0 else "mp3"


def _follows(head: bytes, start: int, certain: bool) -> bool:
    """Whether a second frame begins where the first ends; where the head ends before that, `not certain`"""
    after = start + _frame_bytes(head, start)
    if after + 4 > len(head):
        return not certain
    return _frame_bytes(head, after) > 0 and (head[start + 1] ^ head[after + 1]) & 0xFE == 0


# kbit/s for MPEG 1 layers I, II, III, then MPEG 2 layer I, layers II and III (ISO/IEC 11172-3, 13818-3)
_BITRATES = (
    (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)


def _frame_bytes(head: bytes, at: int) -> int:
    """The length of an MPEG audio or ADTS frame that begins there; 0 where none does"""
    h = head[at : at + 6]
    if len(h) < 4 or h[0] != 0xFF or h[1] & 0xE0 != 0xE0:
        return 0
    layer, version, rate = (4 - (h[1] >> 1 & 3)) % 4, h[1] >> 3 & 3, h[2] >> 2 & 3
    if layer == 0:  # ADTS (ISO/IEC 13818-7): the length stands in 13 bits
        if len(h) < 6 or h[1] & 0xF0 != 0xF0 or h[2] >> 2 & 15 > 12:
            return 0
        length = (h[3] & 3) << 11 | h[4] << 3 | h[5] >> 5
        return length if length > 7 else 0
    if version == 1 or rate == 3 or h[2] >> 4 in (0, 15):
        return 0
    row = layer - 1 if version == 3 else 3 + (layer > 1)
    bits, padding = 1000 * _BITRATES[row][h[2] >> 4], h[2] >> 1 & 1
    hertz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]  # MPEG 1, 2 and 2.5
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding


def _by_structure(head: bytes, suffix: str) -> str:
    """Kinds without a magic of their own: a header that makes sense, and a name that says so"""
    if len(head) >= 18 and suffix in (".tga", ".icb", ".vda", ".vst"):
        sizes = head[12:14] != b"\0\0" and head[14:16] != b"\0\0"
        if sizes and head[1] < 2 and head[2] in (1, 2, 3, 9, 10, 11) and head[16] in (1, 8, 15, 16, 24, 32):
            return "tga"
    if suffix == ".dib" and int.from_bytes(head[:4], "little") in _BITMAP_HEADERS:
        return "dib"
    if suffix in (".spi", ".spider") and len(head) > 92:
        return "spider"
    if head[2048:2052] == b"PCD_":
        return "pcd"
    if head[20:24] == b"GIMP" and head[4:8] == b"\0\0\0\x02":
        return "gbr"
    if len(head) > 128 and head[0] == 10 and head[1] in (0, 2, 3, 4, 5) and head[2] == 1 and head[3] in (1, 2, 4, 8):
        return "pcx"
    return ""


def _written(head: bytes) -> str:
    """ "html", "svg", "xml", "json", "text", or "" for what nobody wrote"""
    try:
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            text = codecs.getincrementaldecoder("utf-16")().decode(head)
        else:
            text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        plain = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
        if plain < 0.85 * len(head):
            return ""
        text = head.decode("latin-1")
    if re.search("[\0-\x07\x0e-\x1a\x1c-\x1f]", text):
        return ""
    start = re.sub(r"\A\s*(<!--.*?-->\s*)*", "", text, flags=re.DOTALL).lower()
    if re.match(r"<(!doctype html|html|head|body|script|meta|title|div|center|h1|p>)", start):
        return "html"
    if start.startswith("<svg") or (start.startswith(("<?xml", "<!doctype svg")) and "<svg" in start):
        return "svg"
    if start.startswith("<?xml"):
        return "html" if "<html" in start else "xml"
    if re.match(r"[\[{]\s*([\[{\"\d\-\]}]|true|false|null)", start):
        return "json"
    return "text"
