"""Parts of Keras that are not public are used with versions that were tried, and no others."""

import tomllib
from pathlib import Path

import keras
import pytest

from quickdraw_tfrecords.base.errors import UsageError
from trainer.training import keras_internals

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.mark.parametrize("version", ["3.13.0", "3.15.1", keras.__version__])
def test_a_version_that_was_tried_is_used(version):
    keras_internals.require_checked_version(version)


@pytest.mark.parametrize("version", ["2.15.0", "3.12.0", "3.16.0", "4.0.0"])
def test_a_version_that_was_not_is_refused_with_the_remedy(version):
    with pytest.raises(UsageError, match=rf"Keras {version} .*: pip install 'keras>=3\.13,<3\.16'"):
        keras_internals.require_checked_version(version)


def test_what_is_installed_with_the_project_will_do():
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert keras_internals.REQUIREMENT in dependencies
