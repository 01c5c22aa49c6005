"""Where records go, as the environment of the migration and `auralink.conf` say it."""

import pytest
from auralink_dataplane.settings import ConfigError, Database, database_from_environment, from_file
from pydantic import SecretStr


def in_file(database: str) -> Database | None:
    text = f'auralink {{ service {{ bridge_id = "b" }}\n database {{ {database} }} }}'
    return from_file(text, {"DB_PASSWORD": "secret"}).database


def test_without_an_address_there_is_none() -> None:
    assert database_from_environment({"DB_PASSWORD": "secret", "DATABASE_TLS": "perhaps"}) is None


def test_the_environment_fills_in_what_a_bridge_would_default_to() -> None:
    found = database_from_environment({"DATABASE_ADDRESS": "[fd00::1]:5432", "DB_PASSWORD": "secret"})
    assert found == Database("[fd00::1]:5432", "auralink", "auralink", SecretStr("secret"))
    assert found.host_port == ("fd00::1", 5432)
    assert "secret" not in repr(found)


def test_every_variable_that_is_wrong_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        database_from_environment({"DATABASE_ADDRESS": "host", "DATABASE_TLS": "perhaps", "DATABASE_USER": "u" * 64})
    assert sorted(error.split(":")[0] for error in caught.value.errors) == [
        "DATABASE_ADDRESS", "DATABASE_TLS", "DATABASE_USER",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("jdbc:postgresql://postgres:5432/auralink", Database("postgres:5432", "auralink", "auralink")),
        ("postgresql://postgres/records", Database("postgres:5432", "records", "auralink")),
        ("postgres://[fd00::1]:6432/records", Database("[fd00::1]:6432", "records", "auralink")),
        ("postgresql://p/r?sslmode=require", Database("p:5432", "r", "auralink", tls=True)),
        ("postgresql://p/r?sslmode=disable", Database("p:5432", "r", "auralink")),
        (
            "postgresql://p/r?sslmode=verify-full&sslrootcert=/ca.pem",
            Database("p:5432", "r", "auralink", tls=True, ca_file="/ca.pem"),
        ),
    ],
)
def test_urls_of_all_the_usual_forms_are_understood(url: str, expected: Database) -> None:
    assert in_file(f'url = "{url}"') == expected


def test_the_guides_own_section_is_understood() -> None:
    found = in_file('url = "jdbc:postgresql://p/r", username = "me", password = ${DB_PASSWORD}')
    assert found == Database("p:5432", "r", "me", SecretStr("secret"))


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@p/r", "postgresql://p:70000/r", "postgresql://[::/r", "http://p/r"]
)
def test_a_url_that_cannot_be_used_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        in_file(f'url = "{url}"')
    (error,) = caught.value.errors
    assert error.startswith("auralink.database")
    assert "secret" not in error
