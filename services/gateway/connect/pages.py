"""The pages of connecting: plain HTML, no script, nothing from elsewhere. What is shown is escaped here, once."""

from __future__ import annotations

from html import escape
from urllib.parse import urlsplit

from services.gateway.connect.records import Connection
from shared.errors import Rejected, Transient

# What to do about each reason; the words of the reason stand before it.
ADVICE = {
    "connect_unknown": "Ask whoever sent it for a new one.",
    "connect_expired": "Ask whoever sent it for a new one.",
    "connect_used": "If that was you there is nothing more to do. Otherwise ask for a new one.",
    "connect_elsewhere": "Go on in the browser where you began, or ask for a new link.",
    "connect_denied": "Nothing was stored. Begin again if that was a mistake.",
    "oauth_server_refused": "Nothing was stored. Begin again, or ask whoever sent the link.",
    "oauth_server_unavailable": "Nothing was stored. Begin again in a minute.",
    "provider_unavailable": "Nothing was stored. Begin again in a minute.",
    "database_unavailable": "Try again in a minute.",
    "connect_unavailable": "Tell whoever runs this service.",
    "unknown_vault": "Where it was to be kept is gone. Ask for a new link.",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto; padding: 0 1rem; }}
button {{ font: inherit; padding: .5rem 1.25rem; }}
dt {{ color: #555; }} dd {{ margin: 0 0 .75rem; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def offer(connection: Connection) -> str:
    """What will be connected, for whom, and the button to begin."""
    rows = {
        "Server": connection.mcp_server_url,
        "For": connection.user_id or "everybody of the workspace",
        "You allow it at": host_of(connection.server.authorization_endpoint),
        "It may": connection.scope or "what the server gives by default",
    }
    shown = "\n".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())
    body = (
        f"<dl>\n{shown}\n</dl>\n"
        "<p>Agents will use this server in that name. Go on only if you asked for this yourself.</p>\n"
        '<form method="post"><button type="submit">Connect</button></form>'
    )
    return page(f"Connect {host_of(connection.mcp_server_url)}", body)


def done(connection: Connection) -> str:
    """The end."""
    whose = f" for {connection.user_id}" if connection.user_id else ""
    words = f"{connection.mcp_server_url} is connected{whose}. You can close this page."
    return page("Connected", f"<p>{escape(words)}</p>")


def failed(error: Rejected | Transient, again: str = "") -> str:
    """Why not, and what to do. `again`: where the same browser may begin again, "" for nowhere."""
    words = str(error)
    advice = ADVICE.get(error.reason, "Ask whoever sent the link.")
    link = f'\n<p><a href="{escape(again)}">Begin again</a></p>' if again else ""
    told = f"<p>{escape(words[:1].upper() + words[1:])}. {escape(advice)}</p>"
    return page("Not connected", told + link)


def page(title: str, body: str) -> str:
    """A whole page; `body` is HTML."""
    return _PAGE.format(title=escape(title), body=body)


def host_of(url: str) -> str:
    """The host, and the port where it is a strange one."""
    return urlsplit(url).netloc
