"""The licence gate: every row knows its corpus, every corpus its terms, and audio leaves only where these allow it.

>>> declared = Declaration.parse("stereo=CC-BY-4.0: our own recordings, all speakers agreed in writing")
>>> declared.corpus, declared.licence
('stereo', 'CC-BY-4.0')
"""

from collections.abc import Iterable
from dataclasses import dataclass

from segkit.dataset.folder import Folder
from segkit.dataset.terms import Terms, terms_in
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
    """What a dataset holds under some terms, and what somebody declares of it.

    Attributes:
        segments: how many.
        declared: who may pass it on, and why; None where the terms hold.
    """

    terms: Terms
    segments: int
    declared: Declaration | None = None

    @property
    def corpus(self) -> str:
        """The corpus."""
        return self.terms.corpus

    @property
    def may_be_shared(self) -> bool:
        """Whether audio and words may be passed on."""
        return self.terms.may_be_shared or self.declared is not None

    @property
    def licence(self) -> str:
        """That of the recordings, or what is declared."""
        return self.declared.licence if self.declared else self.terms.licence


def shares(folder: Folder, declarations: Iterable[Declaration] = ()) -> list[Share]:
    """What any file of a dataset folder holds, by corpus and licence.

    Raises:
        UsageError: something is declared for a corpus that is not in it, or twice for one, or for one whose terms
            allow it already.
    """
    declared: dict[str, Declaration] = {}
    for each in declarations:
        if each.corpus in declared:
            raise UsageError(f"--declare got {each.corpus!r} twice. Expected one licence and one reason for a corpus.")
        declared[each.corpus] = each
    found = terms_in(folder)
    closed = {terms.corpus for terms in found if not terms.may_be_shared}
    if unknown := declared.keys() - {terms.corpus for terms in found}:
        held = ", ".join(sorted({terms.corpus for terms in found}))
        raise UsageError(f"--declare names {', '.join(sorted(unknown))}. The dataset holds {held}.")
    if needless := declared.keys() - closed:
        licences = ", ".join(sorted({terms.licence for terms in found if terms.corpus in needless}))
        names = ", ".join(sorted(needless))
        raise UsageError(f"--declare names {names}, which may be passed on under {licences}. Leave it out.")
    return [
        Share(terms, segments, None if terms.may_be_shared else declared.get(terms.corpus))
        for terms, segments in found.items()
    ]


def expect_open(found: Iterable[Share]) -> None:
    """Refuse audio that may not be passed on.

    Raises:
        UsageError: the message names every such corpus, its terms, and the ways out.
    """
    closed = [share for share in found if not share.may_be_shared]
    if closed:
        each = "; ".join(f"{s.corpus} ({s.segments:,} segments): {s.licence}" for s in closed)
        names = " and ".join(dict.fromkeys(s.corpus for s in closed))
        raise UsageError(
            f"Audio and words of {names} may not be passed on. {each}. Publish with --annotations-only: "
            f"segments, times and labels, to which whoever has {names} adds the audio with `segkit hydrate`. If the "
            f'recordings are yours to give, say so: --declare "{closed[0].corpus}=LICENCE: why you may".'
        )
