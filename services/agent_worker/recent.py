"""The newest small inputs of a session, which need not be read again."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from shared.session.inputs import Filed

MOST, LARGEST = 8, 4 * 1024


class Recent:
    """Up to `MOST` inputs of up to `LARGEST` bytes. A turn is mostly sent as soon as it was filed; a hundred that
    wait in line, or one of a megabyte, are not kept for each of thousands of sessions."""

    def __init__(self) -> None:
        self._inputs: OrderedDict[str, Filed] = OrderedDict()

    def add(self, filed: Filed) -> None:
        """Keep it, if it is small; the oldest goes."""
        if len(msgspec.json.encode(filed.request)) > LARGEST:
            return
        self._inputs[filed.input_id] = filed
        if len(self._inputs) > MOST:
            self._inputs.popitem(last=False)

    def get(self, input_id: str) -> Filed | None:
        """The input; None when it has to be read."""
        return self._inputs.get(input_id)
