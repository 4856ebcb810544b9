"""Workers' addresses hold no secrets, and none is shown."""

import pytest

from seesaw_core.errors import InputError
from seesaw_router.flags import settings_of


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@host:1",
        "http://hunter2@host:1",
        "http://user%3Ahunter2%40host:1",
        "ftp://user:hunter2@host",
        "http://host:1?key=hunter2",
        "http://host:1/#hunter2!",
        "http://user:hunter2\\@host",
        "user:hunter2@host",
    ],
)
def test_credentials_of_a_worker_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InputError, match="without credentials") as refused:
        settings_of([f"--worker={url}"])
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://a:8001", "https://[::1]:8/", "http://a.b-c/base/v"])
def test_plain_addresses_are_taken(url: str) -> None:
    assert settings_of([f"--worker={url}"]).workers == (url.rstrip("/"),)
