"""Elasticsearch client settings for everyone who speaks to it by Python, from one place."""

from typing import Any

from headwater.server_settings import Elasticsearch


def client_options(elasticsearch: Elasticsearch) -> dict[str, Any]:
    """Address, login and authority, for `elasticsearch.Elasticsearch`."""
    secret = elasticsearch.password
    options: dict[str, Any] = {"hosts": elasticsearch.url}
    if elasticsearch.username:
        options["basic_auth"] = (elasticsearch.username, secret.get_secret_value() if secret else "")
    if elasticsearch.ca_file and elasticsearch.url.startswith("https://"):
        options["ca_certs"] = str(elasticsearch.ca_file)
    return options
