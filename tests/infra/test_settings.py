"""What an operator sets: taken as meant, refused by name."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from infra.settings import InvalidSetting, Settings

from_environment = Settings.from_environment


def test_without_anything_set_the_defaults_hold() -> None:
    defaults = from_environment({})
    assert defaults.data == Path.cwd() / ".data"
    assert (defaults.database_url, defaults.host, defaults.port) == (None, "127.0.0.1", 8000)
    assert (defaults.worker, defaults.time_zone) == ("thread", ZoneInfo("UTC"))


def test_everything_can_be_set() -> None:
    settings = from_environment(
        {
            "ANNALS_DATA": "/srv/annals",
            "ANNALS_DATABASE_URL": "postgresql://db/annals",
            "ANNALS_HOST": "0.0.0.0",
            "ANNALS_PORT": "0",
            "ANNALS_WORKER": "none",
            "ANNALS_TIME_ZONE": "Europe/Brussels",
            "ANNALS_MRR_PROPERTY": "revenue",
            "ANNALS_RENEWAL_PROPERTY": "renews",
            "ANNALS_PRIVATE_DESTINATIONS": "allow",
            "ANNALS_TRUSTED_PROXIES": "10.0.0.0/8 192.0.2.7 fd00::/8",
            "PORT": "1",
        }
    )
    assert settings.data == Path("/srv/annals")
    assert settings.database_url == "postgresql://db/annals"
    assert (settings.host, settings.port, settings.worker) == ("0.0.0.0", 0, "none")
    assert settings.time_zone == ZoneInfo("Europe/Brussels")
    assert (settings.mrr_property, settings.renewal_property) == ("revenue", "renews")
    assert settings.private_destinations == "allow"
    assert list(map(str, settings.trusted_proxies)) == ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"]


def test_an_empty_value_is_as_good_as_none() -> None:
    names = ("DATA", "DATABASE_URL", "HOST", "PORT", "WORKER", "TIME_ZONE")
    assert from_environment({f"ANNALS_{name}": "" for name in names}) == from_environment({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "80.5"),
        ("PORT", "²"),
        ("WORKER", "process"),
        ("WORKER", "Thread"),
        ("TIME_ZONE", "Mars/Olympus"),
        ("TIME_ZONE", "../../etc/passwd"),
        ("TIME_ZONE", "Europe"),
        ("TIME_ZONE", "a\0b"),
        ("PRIVATE_DESTINATIONS", "yes"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8"),
        ("DESTINATION_CERTIFICATES", "/nowhere.pem"),
        ("DESTINATION_CERTIFICATES", __file__),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"ANNALS_{name} must be"):
        from_environment({f"ANNALS_{name}": value})


def test_the_data_folder_does_not_move_with_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = from_environment({"ANNALS_DATA": "here"})
    monkeypatch.chdir(tmp_path)
    assert settings.data.is_absolute()
    assert settings.data.parent != tmp_path
