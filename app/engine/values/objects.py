"""Objects: how the instances of a class are taken apart into members, and put together again.

No constructor and no validator runs. What is taken apart is what the instance holds itself: the
fields, the private attributes, and whatever else was put on it.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import NoneType
from typing import Any, cast

from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo, ModelPrivateAttr
from pydantic.networks import _BaseMultiHostUrl, _BaseUrl
from pydantic_core import PydanticUndefined

from workflow_server.app.engine.values.faults import NotFaithful, NotReadable, explain, name_of

Members = dict[str, Any]
MISSING = object()
# Private attributes of the engine's models that hold what users put there, and no live handles.
_ENGINES_OWN = {"_data", "_result"}

# Classes whose instances hold all that they are in their `__dict__`.
_SIMPLE = (SecretStr, SecretBytes, Secret, _BaseUrl, _BaseMultiHostUrl)


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of the instances of a class: where they have their members.

    `defaults` make the value of a field that was not stored; a field without one, of a model's
    private ones, stays away. Of `optional` fields, which are excluded from what the class writes
    itself, the default is the value where the field's own cannot be stored. `computed` members are
    computed again.
    """

    cls: type
    fields: frozenset[str]
    defaults: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    computed: frozenset[str] = frozenset()
    slots: tuple[str, ...] = ()
    is_private: bool = False
    has_dict: bool = True

    def members(self, value: object) -> Members:
        """Return what an instance holds under its fields' names; not to be changed."""
        if self.has_dict and not self.slots and not self.computed:
            return value.__dict__
        members = dict(value.__dict__) if self.has_dict else {}
        for name in self.computed:
            members.pop(name, None)
        for name in self.slots:
            found = getattr(value, name, MISSING)
            if found is not MISSING:
                members[name] = found
        return members

    def complete(self, members: Members, absent: Iterable[str]) -> None:
        """Add the members that were not stored, other than those that the instance had not."""
        for name in self.fields - members.keys() - set(absent):
            make = self.defaults.get(name)
            if make is None and self.is_private:
                continue
            if make is None:
                raise NotReadable(
                    f"{name_of(self.cls)} has the field '{name}' now, for which nothing was stored"
                )
            try:
                members[name] = make()
            except BaseException as error:  # it is the user's, and may raise anything
                raise NotReadable(
                    f"the default of {name_of(self.cls)}.{name} raised {explain(error)}"
                ) from error

    def build(self, members: Members) -> Any:
        """Return an instance that has these members."""
        value: Any = object.__new__(self.cls)
        if self.has_dict:
            for name in self.slots:
                if name in members:
                    object.__setattr__(value, name, members.pop(name))
            value.__dict__.update(members)
            return value
        for name, member in members.items():
            object.__setattr__(value, name, member)
        return value


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """Layout of the instances of a pydantic model: fields and private attributes.

    `skipped` are private attributes that need not be stored while they are an empty value of a
    class: that is their default.
    """

    public: Layout
    private: Layout
    skipped: Mapping[str, type]
    takes_extra: bool
    is_root: bool

    def build(
        self, members: Members, private: Members, extra: Members | None, fields_set: set[str]
    ) -> BaseModel:
        """Return an instance that has these members."""
        value: BaseModel = object.__new__(self.public.cls)
        put = object.__setattr__
        put(value, "__dict__", members)
        put(value, "__pydantic_fields_set__", fields_set)
        if self.is_root:
            return value  # it has none of what follows
        put(value, "__pydantic_extra__", {} if extra is None and self.takes_extra else extra)
        put(value, "__pydantic_private__", private if self.private.fields or private else None)
        return value


def layout_of_model(cls: type[BaseModel]) -> ModelLayout:
    """Return the layout of a pydantic model; `NotFaithful` where it is no usual one."""
    slots = _slots(cls)
    if slots:
        raise NotFaithful(f"{name_of(cls)} is a model that keeps values in __slots__")
    fields = cls.model_fields
    defaults = {name: _field_default(info) for name, info in fields.items()}
    private = cls.__private_attributes__
    made = {name: _private_default(attribute) for name, attribute in private.items()}
    held = {name: make for name, make in made.items() if make is not None}
    known = {name: make for name, make in defaults.items() if make is not None}
    excluded = frozenset(name for name, info in fields.items() if info.exclude and name in known)
    return ModelLayout(
        Layout(cls, frozenset(fields), known, excluded, _computed(cls)),
        Layout(
            cls,
            frozenset(private),
            held,
            frozenset(held) - _ENGINES_OWN,
            is_private=True,
        ),
        skipped={name: kind for name in private if (kind := _empty_class(private[name]))},
        takes_extra=cls.model_config.get("extra") == "allow",
        is_root=issubclass(cls, RootModel),
    )


def layout_of_object(cls: Any) -> Layout | None:
    """Return the layout of a dataclass, an attrs class, or another that is known; or None."""
    attributes = getattr(cls, "__attrs_attrs__", ())
    if dataclasses.is_dataclass(cls):
        defaults = {f.name: _dataclass_default(f) for f in dataclasses.fields(cls)}
    elif attributes or issubclass(cls, _SIMPLE):
        defaults = {attribute.name: _attrs_default(attribute) for attribute in attributes}
    else:
        return None
    return Layout(
        cls,
        frozenset(defaults),
        {name: make for name, make in defaults.items() if make is not None},
        computed=_computed(cls),
        slots=_slots(cls),
        has_dict=cls.__dictoffset__ != 0,
    )


def _slots(cls: type) -> tuple[str, ...]:
    """Return the slots of a class and of those that it is made of, pydantic's own left out."""
    names: list[str] = []
    for parent in cls.__mro__:
        if parent is BaseModel:
            break
        slots = parent.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{parent.__name__.lstrip('_')}{name}"
            names.append(name)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _computed(cls: type) -> frozenset[str]:
    return frozenset(
        name
        for parent in cls.__mro__
        for name, found in vars(parent).items()
        if isinstance(found, cached_property)
    )


def _field_default(info: FieldInfo) -> Callable[[], Any] | None:
    if info.is_required():
        return None
    if info.default_factory_takes_validated_data:
        return None
    return lambda: info.get_default(call_default_factory=True)


def _private_default(attribute: ModelPrivateAttr) -> Callable[[], Any] | None:
    if attribute.default_factory is not None:
        return cast("Callable[[], Any]", attribute.default_factory)
    return None if attribute.default is PydanticUndefined else attribute.get_default


def _empty_class(attribute: ModelPrivateAttr) -> type | None:
    """Return the class of a private attribute's default, where that is an empty value."""
    made_by, default = cast("tuple[Any, Any]", (attribute.default_factory, attribute.default))
    if made_by in (dict, list, set):
        return cast("type", made_by)
    return NoneType if default is None else None


def _dataclass_default(declared: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    if declared.default_factory is not dataclasses.MISSING:
        return declared.default_factory
    if declared.default is not dataclasses.MISSING:
        return lambda: declared.default
    return None


def _attrs_default(attribute: Any) -> Callable[[], Any] | None:
    default = attribute.default
    factory = getattr(default, "factory", None)
    if factory is not None:
        return None if default.takes_self else factory
    if type(default).__module__.partition(".")[0] in ("attr", "attrs"):
        return None  # attrs' own mark of none
    return lambda: default
