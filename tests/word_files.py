"""Files of words in every format that is read: writers, given (label, text, start_s, end_s), where any may be None."""

import json
from itertools import groupby
from xml.sax.saxutils import escape


def as_list(said, key="word"):
    return json.dumps([{"speaker": who, key: text, "start": a, "end": b} for who, text, a, b in said])


def as_alignments(said):
    label = {"A": "SPEAKER_MAIN", "B": "SPEAKER_01"}
    return json.dumps({"alignments": [[text, [a, b], label.get(who)] for who, text, a, b in said]})


def as_whisperx(said):
    """Diarised; a word without times has no speaker, either."""
    words = [
        {"word": text, "score": 0.5} | ({} if a is None else {"start": a, "end": b, "speaker": who})
        for who, text, a, b in said
    ]
    segments = [{"text": "x", "start": 0, "end": 9, "words": [word]} for word in words]
    for segment, (who, *_) in zip(segments, said, strict=True):
        segment["speaker"] = who
    return json.dumps({"segments": segments, "word_segments": words, "language": "en"})


def tiers(said):
    """The entries of each label."""
    return [(label, list(each)) for label, each in groupby(sorted(said, key=lambda e: str(e[0])), key=lambda e: e[0])]


def as_textgrid(said):
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", "xmax = 9 ", "tiers? <exists> "]
    lines += [f"size = {len(tiers(said))} ", "item []: "]
    for i, (label, each) in enumerate(tiers(said), 1):
        head = ["xmin = 0 ", "xmax = 9 ", f"intervals: size = {len(each)} "]
        lines += [f"    item [{i}]:", '        class = "IntervalTier" ', f'        name = "{label}" ']
        lines += [" " * 8 + line for line in head]
        for j, (_, text, a, b) in enumerate(each, 1):
            quoted = (text or "").replace('"', '""')
            lines += [
                f"        intervals [{j}]:",
                f"            xmin = {number(a)} ",
                f"            xmax = {number(b)} ",
            ]
            lines += [f'            text = "{quoted}" ']
    return "\n".join(lines) + "\n"


def as_short_textgrid(said):
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "9", "<exists>", str(len(tiers(said)))]
    for label, each in tiers(said):
        lines += ['"IntervalTier"', f'"{label}"', "0", "9", str(len(each))]
        for _, text, a, b in each:
            quoted = (text or "").replace('"', '""')
            lines += [number(a), number(b), f'"{quoted}"']
    return "\n".join(lines) + "\n"


def as_eaf(said, encoding="UTF-8"):
    slots, body = [], []
    for label, each in tiers(said):
        body.append(f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="{label}">')
        for _, text, a, b in each:
            refs = []
            for time in (a, b):
                value = "" if time is None else f' TIME_VALUE="{round(time * 1000)}"'
                refs.append(f"ts{len(slots) + 1}")
                slots.append(f'<TIME_SLOT TIME_SLOT_ID="{refs[-1]}"{value}/>')
            body.append(
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{len(slots)}" TIME_SLOT_REF1="{refs[0]}" '
                f'TIME_SLOT_REF2="{refs[1]}"><ANNOTATION_VALUE>{escape(text or "")}</ANNOTATION_VALUE>'
                "</ALIGNABLE_ANNOTATION></ANNOTATION>"
            )
        body.append("</TIER>")
    parts = "\n".join(["<TIME_ORDER>", *slots, "</TIME_ORDER>", *body])
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<ANNOTATION_DOCUMENT VERSION="3.0">{parts}</ANNOTATION_DOCUMENT>'
    )


def number(value):
    return "--undefined--" if value is None else repr(value)


def as_ctm(said):
    """The duration of a word that ends before it starts is negative."""
    rows = [f"call {w} {number(a)} {number(None if b is None else b - (a or 0))} {t or ''} 0.5" for w, t, a, b in said]
    return "\n".join([";; made here", *rows])


def as_stm(said):
    rows = [f"call {w} {w}_ {number(a)} {number(b)} <o,f0,unknown> {text or ''}" for w, text, a, b in said]
    return "\n".join([*rows, "call A inter_segment_gap 0 0.1 <o,f0,>"])


def as_rttm(said):
    rows = [
        f"LEXEME call {w} {number(a)} {number(None if b is None else b - (a or 0))} {t} lex x 0.5"
        for w, t, a, b in said
    ]
    return "\n".join(["SPEAKER call 1 0 1 <NA> <NA> A <NA> <NA>", *rows])


def clock(time, comma):
    if time is None:
        return "--:--"
    ms = round(time * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{comma}{ms % 1000:03}"


def as_srt(said):
    """As WhisperX writes it."""
    cues = [
        f"{i}\n{clock(a, ',')} --> {clock(b, ',')}\n" + (f"[{who}]: {text}" if who else str(text)) + "\n"
        for i, (who, text, a, b) in enumerate(said, 1)
    ]
    return "\n".join(cues)


def as_vtt(said):
    cues = [
        f"{clock(a, '.')} --> {clock(b, '.')}\n" + (f"<v {who}>" if who else "") + f"{escape(text or '')}\n"
        for who, text, a, b in said
    ]
    return "\n".join(["WEBVTT\n", "NOTE made here\n", *cues])


WRITERS = {
    "list.json": as_list,
    "segments.json": lambda said: as_list(said, "text"),
    "alignments.json": as_alignments,
    "whisperx.json": as_whisperx,
    "long.TextGrid": as_textgrid,
    "short.TextGrid": as_short_textgrid,
    "elan.eaf": as_eaf,
    "call.ctm": as_ctm,
    "call.stm": as_stm,
    "call.vtt": as_vtt,
    "call.srt": as_srt,
    "call.rttm": as_rttm,
}
UTTERANCES = {"segments.json", "call.stm", "call.vtt", "call.srt"}
TIERS = {"long.TextGrid", "short.TextGrid", "elan.eaf"}
GOOD = [("A", "so", 0.5, 0.75), ("B", "mhm", 1.25, 1.5), ("A", "we", 2.0, 2.25), ("B", "yes", 3.0, 3.5)]


def found(transcript):
    return sorted((w.channel, w.text, w.start_s, w.end_s) for w in transcript.words)


def expected(said):
    return sorted(("AB".index(who), text, a, b) for who, text, a, b in said)


def write(folder, name, said):
    path = folder / name
    path.write_text(WRITERS[name](said), encoding="utf-8")
    return path
