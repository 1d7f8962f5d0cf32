"""Configuration: three layers, the environment's variables over them, and secrets that stay secret."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.errors import SetupError
from headwater.settings import CONF, Postgres, Settings, load_settings

SECRET = "pa55-phrase-of-the-test"
Load = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load an environment's settings afresh, with these variables and no other of ours."""

    def with_variables(env: str = "staging", **variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(f"HEADWATER_{name}", value)
        load_settings.cache_clear()
        return load_settings(env)

    for name in ("HEADWATER_ENV", "HEADWATER_LAKE"):
        monkeypatch.delenv(name, raising=False)
    return with_variables


@pytest.fixture(autouse=True)
def _forget() -> None:
    load_settings.cache_clear()


def test_an_environments_file_overrides_base_key_by_key(load: Load) -> None:
    found = load("production")
    assert (found.spark.shuffle_partitions, found.spark.driver_memory) == (16, "2g")


def test_a_variable_overrides_both_files(load: Load) -> None:
    found = load("production", SPARK__SHUFFLE_PARTITIONS="4", KAFKA__BOOTSTRAP="broker:9")
    assert (found.spark.shuffle_partitions, found.kafka.bootstrap) == (4, "broker:9")


def test_a_variable_reaches_keys_three_levels_down(load: Load) -> None:
    assert load(STREAMS__TRIGGERS__REFINE_S="0.5").streams.triggers.refine_s == 0.5


def test_the_environments_name_comes_from_headwater_env(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_ENV", "staging")
    load_settings.cache_clear()
    assert load_settings().env == "staging"


@pytest.mark.parametrize("name", ["nowhere", "../conf/base", "STAGING"])
def test_an_environment_without_a_file_is_a_setup_fault(load: Load, name: str) -> None:
    with pytest.raises(SetupError, match="no configuration named"):
        load(name)


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("KAFKA__BOOSTRAP", "x", "kafka.boostrap"),
        ("SPARK__SHUFFLE_PARTITIONS", "0", "spark.shuffle_partitions"),
        ("STREAMS__TRIGGERS__REFINE_MS", "5", "streams.triggers.refine_ms"),
        ("STREAMS__STATE_STORE", "redis", "streams.state_store"),
    ],
)
def test_a_wrong_key_or_value_is_named(load: Load, variable: str, value: str, key: str) -> None:
    with pytest.raises(SetupError, match=key):
        load(**{variable: value})


def test_an_unknown_key_in_a_file_is_named(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("base", "staging"):
        text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text(
            text.replace("driver_memory:", "driver_memry:"), encoding="utf-8"
        )
    monkeypatch.setattr("headwater.settings.CONF", tmp_path)
    with pytest.raises(SetupError, match=r"spark\.driver_memory: Field required.*spark\.driver_memry: Extra"):
        load()


def test_a_secret_is_read_from_its_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "pg").write_text(f"{SECRET}\n", encoding="utf-8")
    found = load(POSTGRES__PASSWORD_FILE=str(tmp_path / "pg")).postgres.password
    assert found and found.get_secret_value() == SECRET


def test_a_secret_given_directly_wins_over_its_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "pg").write_text("other", encoding="utf-8")
    variables = {"POSTGRES__PASSWORD_FILE": str(tmp_path / "pg"), "POSTGRES__PASSWORD": SECRET}
    found = load(**variables).postgres.password
    assert found and found.get_secret_value() == SECRET


def test_a_secret_file_that_is_not_there_is_named(load: Load) -> None:
    with pytest.raises(SetupError, match="secret file /nowhere/pg cannot be read"):
        load(POSTGRES__PASSWORD_FILE="/nowhere/pg")


def test_secrets_are_in_no_text_of_the_settings(load: Load) -> None:
    found = load(POSTGRES__PASSWORD=SECRET, KAFKA__PASSWORD=SECRET, REDIS__PASSWORD=SECRET)
    texts = [
        repr(found),
        str(found),
        found.model_dump_json(),
        repr(found.postgres),
        f"{found.kafka.password}",
    ]
    assert not [text for text in texts if SECRET in text]


def test_a_wrong_value_beside_a_secret_does_not_print_the_secret(load: Load) -> None:
    with pytest.raises(SetupError) as caught:
        load(POSTGRES__PASSWORD=SECRET, POSTGRES__COPY_PARTITIONS="0")
    assert SECRET not in str(caught.value)


def test_settings_are_frozen(load: Load) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().postgres.dsn = "other"


def test_a_relative_lake_counts_from_the_project_and_a_uri_stays(load: Load) -> None:
    assert Path(load(LAKE="a/b").lake_root).is_absolute()
    assert load(LAKE="s3a://bucket/lake").lake_root == "s3a://bucket/lake"


def test_every_secret_key_takes_a_file() -> None:
    assert {"password", "owner_password"} <= Postgres.model_fields.keys()
