# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas, as a validator that others wrote understands them, say what trirectl says."""

import datetime
import glob
import json
import os
import re
import subprocess
import tempfile
import tomllib
import unittest

import jsonschema

from tests.system.host import ROOT, TRIRECTL

SHAPE_ERROR = re.compile(
    r"unknown key '|unknown value '|this .* has no '"
    r"|'[^']*'( in \S+)? must (be|contain) |label '.*' must be "
)


def schema(name):
    text = subprocess.run(
        [TRIRECTL, "schema", name], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return json.loads(text)


def as_json(value):
    """The same in types of JSON. A time with an offset is a string; others have no JSON form."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return None
    return value


class Schema(unittest.TestCase):
    def errors_of_trirectl(self, name, content):
        with tempfile.TemporaryDirectory() as directory:
            with open(f"{directory}/{name}.toml", "w", encoding="utf-8") as file:
                file.write(content)
            done = subprocess.run(
                [TRIRECTL, "policy", "check", directory, "--json"],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
        return [
            each["message"]
            for each in json.loads(done.stdout)["diagnostics"]
            if each["severity"] == "error"
        ]

    def agree(self, name, content):
        """Returns whether both accept the file."""
        try:
            value = as_json(tomllib.loads(content))
        except tomllib.TOMLDecodeError:
            return False
        validator = jsonschema.Draft7Validator(schema(name))
        rejected = [each.message for each in validator.iter_errors(value)]
        errors = self.errors_of_trirectl(name, content)
        if rejected:
            self.assertTrue(errors, f"only the schema rejects: {rejected}\n{content}")
        shape = [each for each in errors if SHAPE_ERROR.match(each)]
        # A validator that does not check formats takes any string for a time.
        shape = [each for each in shape if "a date and a time, not a string" not in each]
        if shape:
            self.assertTrue(rejected, f"only trirectl rejects: {shape}\n{content}")
        return not rejected and not errors

    def test_the_schemas_are_schemas(self):
        for name in ("policy", "identity"):
            jsonschema.Draft7Validator.check_schema(schema(name))
            draft = jsonschema.Draft7Validator.META_SCHEMA["$schema"]
            self.assertEqual(schema(name)["$schema"].rstrip("#"), draft.rstrip("#"))

    def test_files_of_the_corpora(self):
        accepted = 0
        for name in ("policy", "identity"):
            for path in sorted(glob.glob(f"{ROOT}/tests/fuzz/corpus/{name}/*")):
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    parts = file.read().split("#---\n")
                for part in parts:
                    with self.subTest(path):
                        accepted += self.agree(name, part)
        self.assertGreater(accepted, 3, "some files must be valid")

    def test_shipped_files_and_examples_are_valid_and_name_their_schema(self):
        for name in ("policy", "identity"):
            for path in (
                f"{ROOT}/etc/{name}.toml",
                *glob.glob(f"{ROOT}/examples/policies/*/{name}.toml"),
                *glob.glob(f"{ROOT}/examples/policies/*/{name}.d/*.toml"),
            ):
                with open(path, encoding="utf-8") as file:
                    content = file.read()
                with self.subTest(os.path.relpath(path, ROOT)):
                    value = as_json(tomllib.loads(content))
                    jsonschema.Draft7Validator(schema(name)).validate(value)
                    self.assertTrue(
                        content.startswith(f"#:schema /usr/share/trireme/schema/{name}.json\n")
                    )

    def test_what_editors_must_mark(self):
        for name, content in (
            ("policy", '[[allow]]\nform = "app=web"\nto = "app=db"\n'),
            ("policy", '[[allow]]\nfrom = "app=web"\n'),
            ("policy", '[defaults]\nmode = "enforced"\n'),
            ("policy", '[allow]\nfrom = "app=web"\nto = "app=db"\n'),
            ("identity", "[host]\nlabels = { zone = 1 }\n"),
            ("identity", '[docker]\nlabels = ["a"]\nignore_labels = ["b"]\n'),
            ("identity", '[[launch]]\nuser = "a"\ngroup = "b"\nlabels = ["app=web"]\n'),
        ):
            with self.subTest(content):
                value = as_json(tomllib.loads(content))
                self.assertFalse(jsonschema.Draft7Validator(schema(name)).is_valid(value))
                self.assertFalse(self.agree(name, content))


if __name__ == "__main__":
    unittest.main()
