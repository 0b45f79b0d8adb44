"""To the Hugging Face Hub, with its own client: resumed, retried, with its progress bar.

The token is the client's: from HF_TOKEN, or from `hf auth login`.
"""

import shutil
from pathlib import Path
from typing import Any

from segkit.errors import SegkitError, UsageError
from segkit.publish.package import SENT


def upload(folder: Path, name: str, private: bool) -> str:
    """Send a dataset folder; returns its address. What the Hub has already is not sent again.

    Raises:
        UsageError: not logged in, or not allowed.
        SegkitError: the Hub cannot be reached, or gives up.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    what: dict[str, Any] = {
        "repo_id": name,
        "repo_type": "dataset",
        "folder_path": str(folder),
        "allow_patterns": list(SENT),
    }
    try:
        address = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        if hasattr(api, "upload_large_folder"):  # left huggingface_hub 2: upload_folder resumes there
            _forget_another(folder, name)
            # alone first, for upload_large_folder asks for ever where one may not write
            card = folder / "README.md"
            api.upload_file(repo_id=name, repo_type="dataset", path_or_fileobj=card, path_in_repo=card.name)
            api.upload_large_folder(**what)
        else:
            api.upload_folder(**what)
    except (HFValidationError, LocalTokenNotFoundError) as error:
        raise UsageError(f"{_short(error)} Expected a name such as user/name, and a login: `hf auth login`.") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise UsageError(f"The Hub refuses {name!r}: {_short(error)} Log in with `hf auth login`.") from None
        raise SegkitError(f"The Hub does not take {name!r}: {_short(error)} Start the same command again.") from None
    except OSError as error:  # connections
        raise SegkitError(f"The Hub cannot be reached: {_short(error)} Start the same command again.") from None
    return str(address)


def _forget_another(folder: Path, name: str) -> None:
    """`upload_large_folder` notes in the folder what it has sent, but not whereto: a second repository stays empty."""
    cache, mark = folder / ".cache" / "huggingface", folder / ".cache" / "segkit-sent-to"
    if cache.exists() and (not mark.exists() or mark.read_text() != name):
        shutil.rmtree(cache)
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(name)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") + "."
