"""Under which terms recordings are, from the rows to the card to the gate of `segkit publish`.

A row says the licence of its recording, and its corpus what else there is to know: whom to cite, how to get it, and
whether copies may be passed on. Where a corpus has one licence, the adapter knows it; where each recording has its own
(recordings without a corpus around them, a benchmark of several sources), the licence of the row decides.

>>> terms("stereo", "CC-BY-4.0").may_be_shared, terms("stereo", "unknown").may_be_shared
(True, False)
>>> terms("fisher", "CC-BY-4.0").licence  # its rows cannot say otherwise
'LDC User Agreement'
"""

from collections import Counter
from dataclasses import dataclass

from segkit import corpora
from segkit.dataset.folder import Folder
from segkit.dataset.rows import read
from segkit.errors import UsageError

OPEN = {
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CDLA-Permissive-2.0", "MIT", "ODC-By-1.0", "PDDL-1.0"),
    *(
        f"CC-{kind}-{version}"
        for kind in ("BY", "BY-SA", "BY-NC", "BY-NC-SA")
        for version in ("2.0", "2.5", "3.0", "4.0")
    ),
}
"""SPDX identifiers of licences that allow to pass on copies, and what is made from them."""

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Terms:
    """The terms of some recordings of a corpus.

    Attributes:
        licence: SPDX identifier, or the name of the terms.
        may_be_shared: whether copies of audio and words may be passed on.
        citation: of the corpus; empty without any.
        how_to_get_it: for readers who rebuild the audio.
    """

    corpus: str
    licence: str
    may_be_shared: bool
    citation: str
    how_to_get_it: str


def terms(corpus: str, licence: str | None) -> Terms:
    """The terms of the recordings of a corpus that have this licence in their rows."""
    if corpus not in corpora.names():
        return Terms(corpus, licence or UNKNOWN, False, "", f"{corpus} is unknown to this segkit")
    adapter = corpora.get(corpus)
    if not adapter.licence_of_each:
        return Terms(corpus, adapter.licence, adapter.redistributable, adapter.citation, adapter.how_to_get_it)
    of_row = licence or UNKNOWN
    may = of_row.casefold() in {each.casefold() for each in OPEN}
    return Terms(corpus, of_row, may, adapter.citation, adapter.how_to_get_it)


def terms_in(folder: Folder) -> dict[Terms, int]:
    """All terms that any file of a dataset names, with the number of segments under each, by corpus and licence.

    Raises:
        UsageError: a row does not name its corpus.
        SegkitError: a file is damaged.
    """
    counts = Counter[Terms]()
    for path in folder.shards() + folder.parts():
        table = read(path, ["corpus", "licence"])
        if nameless := table["corpus"].null_count:
            raise UsageError(f"{path.name} has {nameless} rows without a corpus, so under unknown terms.")
        rows = Counter(zip(table["corpus"].to_pylist(), table["licence"].to_pylist(), strict=True))
        for (corpus, licence), count in rows.items():
            counts[terms(corpus, licence)] += count if path.is_relative_to(folder.data) else 0
    return dict(sorted(counts.items(), key=lambda each: (each[0].corpus, each[0].licence)))
