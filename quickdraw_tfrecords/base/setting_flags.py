"""The absl flags of settings.

define_flags(Config)          # --data_dir, --epochs, ...; grouped: module_name is the group
config = from_flags(Config)   # once absl has parsed them; checked
"""

from typing import Any, TypeVar

from absl import flags

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.settings import Setting, check, settings_of

SettingsT = TypeVar("SettingsT")


def define_flags(settings_class: type[Any], flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for each setting, under the name of its group as the module's."""
    for one in settings_of(settings_class):
        flag: flags.Flag[Any]
        if one.type is bool:
            flag = flags.BooleanFlag(one.name, one.default, one.help)
        else:
            flag = flags.Flag(_Parser(one), _Serializer(one), one.name, one.default, one.help)
        flags.DEFINE_flag(flag, flag_values, module_name=one.declared.group)


def from_flags(
    settings_class: type[SettingsT], flag_values: flags.FlagValues = flags.FLAGS
) -> SettingsT:
    """The parsed flags as settings, each of them checked.

    Raises:
      UsageError: A required one is missing, or a value is impossible.
    """
    values = {}
    for one in settings_of(settings_class):
        values[one.name] = flag_values[one.name].value
        if one.is_required and values[one.name] is None:
            raise UsageError(f"--{one.name} is required")
    settings = settings_class(**values)
    check(settings)
    return settings


class _Parser(flags.ArgumentParser[Any]):
    """Gives absl the type of a setting; bounds and choices are left to `check`."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def parse(self, argument: Any) -> Any:
        return self._setting.from_text(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return getattr(self._setting.type, "__name__", "location").lower()


class _Serializer(flags.ArgumentSerializer[Any]):
    """Gives absl the text of a value."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def serialize(self, value: Any) -> str:
        return self._setting.to_text(value)
