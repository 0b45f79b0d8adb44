"""To the Hugging Face Hub, with its own client: resumed, retried, with its progress bar.

The token is the client's: from HF_TOKEN, or from `hf auth login`.
"""

import glob
from functools import partial
from typing import TYPE_CHECKING

from segkit.dataset.folder import CONTENT, Folder
from segkit.errors import SegkitError, UsageError, one_line

if TYPE_CHECKING:
    from requests import Session

SILENCE_S = 120.0
"""How long the Hub may say nothing before a request is tried again, or given up. Its client waits without a limit."""


def upload(folder: Folder, name: str, private: bool) -> str:
    """Send a dataset folder; returns its address. What the Hub has already is not sent again.

    Raises:
        UsageError: not logged in, or not allowed.
        SegkitError: the Hub cannot be reached, or gives up.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    _limit_silence()
    api = HfApi()
    names = [glob.escape(path.relative_to(folder.path).as_posix()) for path in folder.content()]
    try:
        address = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        if private != api.dataset_info(name).private:
            there, option = ("public", "--public") if private else ("private", "--private")
            raise UsageError(f"{name!r} exists and is {there}. Say {option}, or change it there first.")
        # one commit, which removes files of an earlier dataset; upload_large_folder retries without end
        api.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=folder.path,
            allow_patterns=names,
            delete_patterns=list(CONTENT),
            commit_message="segkit publish",
        )
    except (HFValidationError, LocalTokenNotFoundError) as error:
        raise UsageError(
            f"{one_line(error)}. Expected a name such as user/name, and a login: `hf auth login`."
        ) from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise UsageError(f"The Hub refuses {name!r}: {one_line(error)}. Log in with `hf auth login`.") from None
        raise SegkitError(f"The Hub does not take {name!r}: {one_line(error)}. Start the same command again.") from None
    except SegkitError:
        raise
    except Exception as error:  # connections: of requests or of httpx, by the version of the client
        raise SegkitError(f"The Hub cannot be reached: {one_line(error)}. Start the same command again.") from None
    return str(address)


def _limit_silence() -> None:
    import huggingface_hub

    if hasattr(huggingface_hub, "configure_http_backend"):  # before 1.0
        huggingface_hub.configure_http_backend(_session)
    else:
        huggingface_hub.get_session().timeout = SILENCE_S  # type: ignore[attr-defined]


def _session() -> "Session":
    from requests import Session

    session = Session()
    session.request = partial(session.request, timeout=SILENCE_S)  # type: ignore[method-assign]
    return session
