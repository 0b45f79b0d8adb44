"""The licence gate: every row knows its corpus, every corpus its terms, and audio leaves only where these allow it.

>>> declared = Declaration.parse("stereo=CC-BY-4.0: our own recordings, all speakers agreed in writing")
>>> declared.corpus, declared.licence
('stereo', 'CC-BY-4.0')
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from segkit import corpora
from segkit.dataset import readable
from segkit.errors import UsageError

MIN_REASON = 20
"""A reason has at least as many characters: who agreed to what."""


@dataclass(frozen=True)
class Declaration:
    """Somebody's word that the recordings of a corpus may be passed on; it goes into the card."""

    corpus: str
    licence: str
    reason: str

    @classmethod
    def parse(cls, text: str) -> "Declaration":
        """`CORPUS=LICENCE: reason`, as --declare takes it.

        Raises:
            UsageError: it is of another form, or gives no reason.
        """
        corpus, equals, rest = text.partition("=")
        licence, colon, reason = (part.strip() for part in rest.partition(":"))
        printable = text.isprintable() and "|" not in text  # it goes into a table
        if not equals or not colon or not licence or len(reason) < MIN_REASON or not printable:
            raise UsageError(
                f"--declare got {text!r}. Expected CORPUS=LICENCE: and, in {MIN_REASON} characters or more, why you "
                'may pass the recordings on: "stereo=CC-BY-4.0: our own recordings, all speakers agreed in writing".'
            )
        return cls(corpus.strip(), licence, reason)


@dataclass(frozen=True)
class Share:
    """What a dataset holds of one corpus, and the terms it is under.

    Attributes:
        may_be_shared: whether audio and words may be passed on.
        licence: that of the recordings, which the rows tell for corpora of anybody's recordings; or what is declared.
        citation: of the corpus.
        how_to_get_it: for readers who rebuild the audio.
        declared: who said so, and why; None where the corpus's own terms hold.
    """

    corpus: str
    segments: int
    may_be_shared: bool
    licence: str
    citation: str
    how_to_get_it: str
    declared: Declaration | None = None


def shares(out: Path, declarations: Iterable[Declaration] = ()) -> list[Share]:
    """Every corpus that any file of a dataset folder names.

    Raises:
        UsageError: something is declared for a corpus that is not in it, or twice for one, or for one that has terms
            which allow it.
    """
    declared: dict[str, Declaration] = {}
    for each in declarations:
        if each.corpus in declared:
            raise UsageError(f"--declare got {each.corpus!r} twice. Expected one licence and one reason for a corpus.")
        declared[each.corpus] = each
    segments = Counter[str]()
    licences: dict[str, set[str]] = defaultdict(set)
    for path in sorted({*out.glob("data/*/*.parquet"), *out.glob("annotations/*.parquet")}):
        for (corpus, licence), count in _terms(path).items():
            segments[corpus] += count if path.parent.parent.name == "data" else 0
            licences[corpus].add(licence or "unknown")
    if unknown := declared.keys() - licences.keys():
        raise UsageError(
            f"--declare names {', '.join(sorted(unknown))}. The dataset holds {', '.join(sorted(licences))}."
        )
    return [_share(corpus, segments[corpus], licences[corpus], declared.get(corpus)) for corpus in sorted(licences)]


def _terms(path: Path) -> Counter[tuple[str, str | None]]:
    """How many rows of a file are of which corpus, under which licence."""
    with readable(path):
        table = pq.read_table(path, columns=["corpus", "licence"])
    if nameless := table["corpus"].null_count:
        raise UsageError(f"{path.name} has {nameless} rows without a corpus, whose terms nobody knows.")
    return Counter(zip(*(table[name].to_pylist() for name in ("corpus", "licence")), strict=True))


def _share(corpus: str, segments: int, licences: set[str], own: Declaration | None) -> Share:
    if corpus not in corpora.names():
        unknown = "unknown to this segkit"
        return Share(corpus, segments, own is not None, own.licence if own else unknown, unknown, unknown, own)
    terms = corpora.get(corpus)
    if own and terms.redistributable:
        raise UsageError(f"--declare names {corpus}, which may be passed on under {terms.licence}. Leave it out.")
    anybodys = "licence" in vars(terms.Options())  # then each row has what was said
    licence = own.licence if own else ", ".join(sorted(licences)) if anybodys else terms.licence
    may = terms.redistributable or own is not None
    return Share(corpus, segments, may, licence, terms.citation, terms.how_to_get_it, own)


def expect_open(found: Iterable[Share]) -> None:
    """Refuse audio that may not be passed on.

    Raises:
        UsageError: the message names every such corpus, its terms, and the ways out.
    """
    closed = [share for share in found if not share.may_be_shared]
    if closed:
        each = "; ".join(f"{s.corpus} ({s.segments:,} segments): {s.licence}" for s in closed)
        names = " and ".join(s.corpus for s in closed)
        raise UsageError(
            f"Audio and words of {names} may not be passed on. {each}. Publish with --annotations-only: "
            f"segments, times and labels, to which whoever has {names} adds the audio with `segkit hydrate`. If the "
            f'recordings are yours to give, say so: --declare "{closed[0].corpus}=LICENCE: why you may".'
        )
