"""Descriptor pools and message classes, without the slow half of protobuf.

The public modules descriptor_pool and message_factory import protobuf's pure Python implementation, and with it
pickle, locale and datetime, even when the C implementation does all the work: 17 ms of the 60 that a command may take
to start. Here the two constructors that those modules lead to are called directly when the C implementation (upb) is
in use. Installations without it go the public way, and so will versions that lay things out differently.
"""

from __future__ import annotations

from google.protobuf.internal import api_implementation
from google.protobuf.message import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_c_module = getattr(api_implementation, "_c_module", None)
_has_upb = hasattr(_c_module, "_IS_UPB") and hasattr(_c_module, "DescriptorPool") and hasattr(_c_module, "MessageMeta")


def new_pool() -> Any:
    """An empty DescriptorPool."""
    if _has_upb:
        return _c_module.DescriptorPool()  # type: ignore[union-attr]
    from google.protobuf import descriptor_pool

    return descriptor_pool.DescriptorPool()


def make_class(descriptor: Any, made: dict[str, type[Message]]) -> type[Message]:
    """The class for descriptor. Classes live in `made`, by full name, and so do those of all fields below.

    upb finds the class of a submessage by looking for one that exists already, hence the recursion.
    """
    name = descriptor.full_name
    cls = made.get(name)
    if cls is not None:
        return cls
    if _has_upb:
        attributes = {"DESCRIPTOR": descriptor, "__module__": None}
        cls = _c_module.MessageMeta(descriptor.name, (Message,), attributes)  # type: ignore[union-attr]
    else:
        from google.protobuf import message_factory

        cls = message_factory.GetMessageClass(descriptor)
    made[name] = cls
    for field in descriptor.fields:
        if field.message_type is not None:
            make_class(field.message_type, made)
    return cls
