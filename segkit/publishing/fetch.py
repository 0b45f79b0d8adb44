"""A published dataset, from a folder or from the Hub."""

from pathlib import Path

from segkit.errors import SegkitError, UsageError, one_line


def fetched(source: str) -> Path:
    """The folder of a dataset; one of the Hub is downloaded to its cache, resumed if that was interrupted.

    Raises:
        UsageError: there is no such folder or dataset.
        SegkitError: the Hub cannot be reached.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    from segkit.dataset.folder import CONTENT

    try:
        return Path(snapshot_download(source, repo_type="dataset", allow_patterns=list(CONTENT)))
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise UsageError(
            f"SOURCE got {source!r}: no such folder, and nothing on the Hub ({one_line(error)}). Expected a folder, or "
            "user/name; log in with `hf auth login` if it is private."
        ) from None
    except Exception as error:  # connections: of requests or of httpx, by the version of the client
        raise SegkitError(
            f"SOURCE got {source!r}: no such folder, and the Hub cannot be reached: {one_line(error)}. Start the same "
            "command again."
        ) from None
