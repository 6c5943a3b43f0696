"""`turnstile vaults`: vaults and credentials of a tenant, by the gateway. A secret is read from standard input, a
variable or a prompt, never from the command line, which others can read."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from infra.clients.gateway import Gateway, Json, UnexpectedAnswer
from services.operator.failures import Impossible, failing_clearly
from services.operator.printable import in_columns, plain
from shared.settings import CallerSettings, named, read

Vault = Annotated[str, typer.Argument(metavar="VAULT", help="The vault's id.")]
Credential = Annotated[str, typer.Argument(metavar="CREDENTIAL", help="The credential's id.")]
Kind = Literal["static_bearer", "environment_variable", "mcp_oauth"]
From = Annotated[
    str,
    typer.Option(
        "--secret-from", metavar="VARIABLE", help="The variable of the environment that holds it."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="The gateway's JSON.")]


def vaults() -> typer.Typer:
    """The `vaults` commands."""
    cli = typer.Typer(
        help="Vaults of a tenant and what is in them, without ever showing a secret. Asks the gateway at "
        "TURNSTILE_GATEWAY_URL with the key TURNSTILE_API_KEY. A secret is read from --secret-from, from standard "
        "input, or from a prompt; of mcp_oauth it is JSON: access_token, and refresh if there is one.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    commands: list[tuple[str, Callable[..., None]]] = [
        ("list", list_vaults),
        ("create", create_vault),
        ("delete", delete_vault),
        ("add", add_credential),
        ("rotate", rotate_credential),
        ("remove", remove_credential),
        ("validate", validate_credential),
        ("connect", connect_server),
    ]
    for name, act in commands:
        cli.command(name)(act)
    return cli


def list_vaults(
    vault: Annotated[str, typer.Argument(help="List this vault's credentials.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the tenant's vaults, or the credentials of one."""
    path = f"/v1/vaults/{vault}/credentials" if vault else "/v1/vaults"
    rows: list[Json] = []
    page: Json = {"next_cursor": ""}
    while page.get("next_cursor") is not None:
        more = {"limit": 200, **({"cursor": page["next_cursor"]} if page["next_cursor"] else {})}
        page = _asked("GET", path, params={} if vault else more)
        rows += page["data"]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    shown = _credential_cells if vault else _vault_cells
    for line in in_columns([*map(shown, rows)]) if rows else ["nothing"]:
        typer.echo(line)


def create_vault(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    project: Annotated[str, typer.Option(help="For sessions of this project.")] = "",
    user: Annotated[str, typer.Option(help="For sessions of this user.")] = "",
) -> None:
    """Make a vault; prints its id."""
    body: Json = {"display_name": name}
    body |= {"project": project} if project else {}
    body |= {"user_id": user} if user else {}
    typer.echo(_asked("POST", "/v1/vaults", body)["vault_id"])


def delete_vault(
    vault: Vault, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete a vault and its credentials, at the provider too."""
    if not yes:
        typer.confirm(f"delete {vault} and all its credentials?", abort=True)
    _asked("DELETE", f"/v1/vaults/{vault}")
    typer.echo(f"{vault}: deleted")


def add_credential(
    vault: Vault,
    kind: Annotated[Kind, typer.Option("--type", help="What kind of secret.")] = "static_bearer",
    url: Annotated[str, typer.Option(help="The MCP server's URL.")] = "",
    variable: Annotated[str, typer.Option(help="environment_variable: its name.")] = "",
    host: Annotated[
        list[str], typer.Option(help="environment_variable: only to this host; may be repeated.")
    ] = [],  # noqa: B006
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
    secret_from: From = "",
) -> None:
    """Put a credential into a vault; prints its id."""
    place: Json = {"mcp_server_url": url}
    if kind == "environment_variable":
        if not variable:
            raise typer.BadParameter("say which variable", param_hint="--variable")
        limited = {"type": "limited", "allowed_hosts": host}
        place = {
            "secret_name": variable,
            "networking": limited if host else {"type": "unrestricted"},
        }
    elif not url:
        raise typer.BadParameter("say for which MCP server", param_hint="--url")
    body: Json = {"auth": {"type": kind, **place, **_secret(kind, secret_from)}}
    body |= {"display_name": name} if name else {}
    typer.echo(_asked("POST", f"/v1/vaults/{vault}/credentials", body)["credential_id"])


def rotate_credential(
    vault: Vault,
    credential: Credential,
    kind: Annotated[Kind, typer.Option("--type", help="Its type, as listed.")] = "static_bearer",
    secret_from: From = "",
) -> None:
    """Exchange a credential's secret."""
    body = {"auth": {"type": kind, **_secret(kind, secret_from)}}
    _asked("POST", f"/v1/vaults/{vault}/credentials/{credential}/rotate", body)
    typer.echo(f"{credential}: rotated")


def remove_credential(vault: Vault, credential: Credential) -> None:
    """Delete a credential, at the provider too."""
    _asked("DELETE", f"/v1/vaults/{vault}/credentials/{credential}")
    typer.echo(f"{credential}: removed")


def validate_credential(vault: Vault, credential: Credential) -> None:
    """Have an OAuth credential tried at its MCP server; exits 1 unless it is valid."""
    found = _asked("POST", f"/v1/vaults/{vault}/credentials/{credential}/validate")
    told = [f"{credential}: {found['status']}"]
    told += [f"the server answered {found['http_status']}"] if found["http_status"] else []
    told += [f"refresh: {found['refresh']}"] if found["refresh"] else []
    typer.echo("; ".join(told))
    if found["status"] != "valid":
        raise typer.Exit(1)


def connect_server(
    vault: Vault,
    url: Annotated[str, typer.Option(help="The MCP server's URL.")],
    user: Annotated[
        str, typer.Option(help="Whom the page names; the vault's user if left out.")
    ] = "",
    client_id: Annotated[
        str, typer.Option(help="A client that was registered at the server by hand.")
    ] = "",
    secret_from: Annotated[
        str,
        typer.Option(
            "--secret-from", metavar="VARIABLE", help="The variable that holds the client's secret."
        ),
    ] = "",
    authorization_endpoint: Annotated[
        str, typer.Option(help="Where the server says nothing of itself.")
    ] = "",
    token_endpoint: Annotated[str, typer.Option(help="Likewise.")] = "",
    scope: Annotated[list[str], typer.Option(help="What to ask for; may be repeated.")] = [],  # noqa: B006
    return_to: Annotated[str, typer.Option(help="The page to show at the end.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print a link by which one person connects an MCP server by OAuth, once. Whoever has it may."""
    if secret_from and not named(secret_from):
        raise typer.BadParameter(f"{secret_from} is empty", param_hint="--secret-from")
    given: Json = {
        "mcp_server_url": url,
        "user_id": user,
        "client_id": client_id,
        "client_secret": named(secret_from) if secret_from else "",
        "authorization_endpoint": authorization_endpoint,
        "token_endpoint": token_endpoint,
        "scopes": scope,
        "return_to": return_to,
    }
    body = {field: value for field, value in given.items() if value}
    made = _asked("POST", f"/v1/vaults/{vault}/connect", body)
    if as_json:
        typer.echo(json.dumps(made))
        return
    typer.echo(made["url"])
    typer.echo(f"good until {made['expires_at']}, for one browser, once", err=True)


def _secret(kind: Kind, variable: str) -> Json:
    """The fields of `auth` that are secret. Raises Impossible when there is none, or no JSON where it must be."""
    if variable:
        given = named(variable)
    elif sys.stdin.isatty():
        given = getpass.getpass("secret: ")
    else:
        given = sys.stdin.read()
    given = given.strip("\r\n")
    if not given:
        raise typer.BadParameter("there is no secret: give it by --secret-from or standard input")
    if kind != "mcp_oauth":
        return {"token" if kind == "static_bearer" else "secret_value": given}
    try:
        fields = json.loads(given)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not fields.keys() <= {
        "access_token",
        "expires_at",
        "refresh",
    }:
        # No word of what was given: it holds a secret.
        raise typer.BadParameter(
            "of mcp_oauth the secret is JSON: access_token, expires_at, refresh"
        )
    return fields


def _asked(method: str, path: str, body: Json | None = None, **more: Any) -> Json:
    """What the gateway answers. Ends the command with the problem's own words where it refuses."""
    caller = read(CallerSettings)
    where, key = caller.gateway_url, caller.key

    async def ask() -> Json:
        if not key:
            raise Impossible("set TURNSTILE_API_KEY to a key of the gateway")
        async with Gateway(where, key, timeout=30.0) as gateway:
            answer = await gateway.http.request(method, path, json=body, **more)
        if answer.status_code >= 400:
            raise Impossible(_problem(answer.status_code, answer.content))
        found: Json = answer.json()
        return found

    with failing_clearly(f"asking the gateway at {where}", (key,)):
        return asyncio.run(ask())
    raise UnexpectedAnswer(path)


def _problem(status: int, content: bytes) -> str:
    try:
        return f"{status}: {json.loads(content)['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{status}"


def _vault_cells(row: Json) -> list[str]:
    whose = [f"{word} {row[field]}" for word, field in WHOSE if row[field]]
    return [
        row["vault_id"],
        plain(row["display_name"]),
        ", ".join(whose) or "all",
        row["created_at"],
    ]


WHOSE = (("project", "project"), ("user", "user_id"))


def _credential_cells(row: Json) -> list[str]:
    until = row["expires_at"] or ("refreshed" if row["refreshable"] else "")
    place = row["mcp_server_url"] or row["secret_name"]
    return [
        row["credential_id"],
        row["type"],
        plain(place),
        plain(row["display_name"] or ""),
        until,
    ]
