"""Resources of a session: good ones, and what is wrong with others."""

from __future__ import annotations

from typing import Any

FILE: dict[str, Any] = {"type": "file", "file_id": "file_1"}
STORE: dict[str, Any] = {"type": "memory_store", "memory_store_id": "memstore_1"}
REPOSITORY: dict[str, Any] = {
    "type": "github_repository",
    "url": "https://github.com/acme/shop.git",
}
PLACED = {**FILE, "mount_path": "/data/a"}
# name: the resources, the field that is wrong, a word of how to put it right
BAD_RESOURCES: dict[str, tuple[Any, str, str]] = {
    "no list": (FILE, "resources", "a list"),
    "too many": ([FILE] * 101, "resources", "at most 100 items"),
    "one that is none": (["file_1"], "resources[0]", "an object"),
    "no type": ([{"file_id": "file_1"}], "resources[0].type", "required"),
    "an unknown type": (
        [FILE, {"type": "disk"}],
        "resources[1].type",
        "file, github_repository or memory_store",
    ),
    "no file": ([{"type": "file"}], "resources[0].file_id", "required"),
    "an empty file": ([{**FILE, "file_id": ""}], "resources[0].file_id", "must not be empty"),
    "a field too many": ([{**FILE, "path": "/a"}], "resources[0].path", "spelling"),
    **{
        f"mounted at {path!r}": (
            [{**FILE, "mount_path": path}],
            "resources[0].mount_path",
            "an absolute path",
        )
        for path in ("data", "/", "/a//b", "/a/", "/a/../b", "/./a", "/a\n", "/a\x00b", "~/a")
    },
    "no path": ([{**FILE, "mount_path": ""}], "resources[0].mount_path", "must not be empty"),
    "a long path": (
        [{**FILE, "mount_path": "/" + "a" * 1024}],
        "resources[0].mount_path",
        "at most 1024",
    ),
    "two at one path": (
        [PLACED, {**STORE}, {**PLACED, "file_id": "file_2"}],
        "resources[2].mount_path",
        "taken",
    ),
    "one file twice": ([FILE, FILE], "resources[1].mount_path", "taken"),
    "below a file": (
        [PLACED, {**REPOSITORY, "mount_path": "/data/a/b"}],
        "resources[1].mount_path",
        "taken",
    ),
    "where the provider puts another": (
        [REPOSITORY, {**FILE, "mount_path": "/workspace/shop"}],
        "resources[1].mount_path",
        "taken",
    ),
    "a repository's token": (
        [{**REPOSITORY, "authorization_token": "ghp_s3cret"}],
        "resources[0].authorization_token",
        "a credential of a vault",
    ),
    **{
        f"a repository at {url}": ([{**REPOSITORY, "url": url}], "resources[0].url", "OWNER/NAME")
        for url in (
            "https://ghp_s3cret@github.com/acme/shop",
            "https://github.com/acme/shop?token=ghp_s3cret",
            "https://github.com/acme/shop#a",
            "git@github.com:acme/shop.git",
            "http://github.com/acme/shop",
            "https://github.com/acme",
            "https://github.com/acme/..",
            "https://github.com/acme/shop/tree/main",
        )
    },
    "a checkout of neither": (
        [{**REPOSITORY, "checkout": {"type": "tag", "name": "v1"}}],
        "resources[0].checkout.type",
        "branch or commit",
    ),
    "half a commit": (
        [{**REPOSITORY, "checkout": {"type": "commit", "sha": "0a1b2c3"}}],
        "resources[0].checkout.sha",
        "whole SHA",
    ),
    "a branch without name": (
        [{**REPOSITORY, "checkout": {"type": "branch"}}],
        "resources[0].checkout.name",
        "required",
    ),
    "no store": ([{"type": "memory_store"}], "resources[0].memory_store_id", "required"),
    "one store twice": ([STORE, FILE, STORE], "resources[2].memory_store_id", "twice"),
    "nine stores": (
        [{**STORE, "memory_store_id": f"memstore_{n}"} for n in range(9)],
        "resources",
        "8 memory stores",
    ),
    "an odd access": (
        [{**STORE, "access": "write"}],
        "resources[0].access",
        "read_write or read_only",
    ),
    "long instructions": (
        [{**STORE, "instructions": "i" * 4097}],
        "resources[0].instructions",
        "at most 4096",
    ),
}
