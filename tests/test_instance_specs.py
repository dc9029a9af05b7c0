"""What requests for instances say: JSON and YAML mean the same, and what is wrong is named in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.settings import Instances
from shim.instances.documents import DEEPEST, LONGEST, MOST_VALUES, UnsupportedTypeError, read_document
from shim.instances.errors import InstanceError, InvalidError, NotYoursError, UnknownError
from shim.instances.records import EnvironmentSpec, Instance, KernelSpec, NotebookSpec, instance_of, to_text
from shim.instances.specs import environment_members, environment_spec, notebook_spec

SETTINGS = Instances()
OWNER = "e9ca23d68d884d4ebb19d07889727dae"
ENVIRONMENT = EnvironmentSpec("notebook-env", "example.org/base:1")
REQUEST: dict[str, Any] = {
    "meta": {"name": "test-nb", "namespace": "default", "ownerId": OWNER},
    "environment": {"name": "notebook-env"},
    "spec": {"envVars": {"TEST_ENV": "test"}, "resources": "cpu=1,memory=1.0Gi"},
}
SPEC = NotebookSpec("test-nb", "default", OWNER, ENVIRONMENT, "cpu=1,memory=1.0Gi", {"TEST_ENV": "test"}, None)
AS_YAML = """---
meta:
  name: test-nb
  namespace: default
  ownerId: e9ca23d68d884d4ebb19d07889727dae
environment:
  name: notebook-env
spec:
  envVars:
    TEST_ENV: test
  resources: "cpu=1,memory=1.0Gi"
"""


def lookup(name: str) -> EnvironmentSpec:
    if name != "notebook-env":
        raise UnknownError("Environment not found.")
    return ENVIRONMENT


def asked(fields: dict[str, Any], owner: str | None = None) -> NotebookSpec:
    return notebook_spec(fields, SETTINGS, lookup, owner)


def request_with(part: str, **changes: Any) -> dict[str, Any]:
    """The request with members of one part changed; `...` leaves one out."""
    members = {**REQUEST[part], **changes}
    return {**REQUEST, part: {name: value for name, value in members.items() if value is not ...}}


def from_json(text: str) -> dict[str, Any]:
    return read_document(text.encode(), "application/json")


def from_yaml(text: str) -> dict[str, Any]:
    return read_document(text.encode(), "application/yaml")


@pytest.fixture(params=["libyaml", "python"])
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parsers of YAML, for not every machine has the quick one."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader")


# Documents


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/json;charset=utf-8",
        'application/json; charset="utf-8"',
    ],
)
def test_a_request_is_read_from_json(kind: str) -> None:
    assert asked(read_document(json.dumps(REQUEST).encode(), kind)) == SPEC


@pytest.mark.parametrize("kind", ["application/yaml", "text/yaml; charset=utf-8", "application/x-yaml"])
@pytest.mark.usefixtures("_parser")
def test_a_request_is_read_from_yaml(kind: str) -> None:
    assert asked(read_document(AS_YAML.encode(), kind)) == SPEC
    assert asked(read_document(json.dumps(REQUEST).encode(), kind)) == SPEC


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
     "application/json, text/yaml", "application/json; charset=utf-16", "application/yaml; charset=latin-1", "\0", ";"],
)  # fmt: skip
def test_other_types_are_refused_as_such(kind: str) -> None:
    with pytest.raises(UnsupportedTypeError, match=r"^Send the body (as|in) "):
        read_document(json.dumps(REQUEST).encode(), kind)


def test_numbers_and_truth_values_of_json_are_texts_as_they_were_written() -> None:
    found = from_json(
        '{"a": 5, "b": true, "c": 1.0, "d": null, "e": [1e3, false], "f": "x", "g": -0, "h": {"i": 1E400}}'
    )
    assert found == {
        "a": "5",
        "b": "true",
        "c": "1.0",
        "d": None,
        "e": ["1e3", "false"],
        "f": "x",
        "g": "-0",
        "h": {"i": "1E400"},
    }
    assert from_json(f'{{"a": {"9" * 5000}}}') == {"a": "9" * 5000}


@pytest.mark.usefixtures("_parser")
def test_plain_words_of_yaml_are_texts_and_only_null_is_none() -> None:
    text = (
        "a: yes\nb: 1e3\nc: 1\nd: ~\ne: null\nf:\ng: 'null'\nh: 2020-01-01\ni: 0x1F\nj: [1.0, on, Null, '']\n"
        'k: .nan\nl: |\n  two\n  lines\nm: "\\u00fc"\n<<: {x: 1}\n1: {2: 3}\nn: {}\n'
    )
    assert from_yaml(text) == {
        "a": "yes", "b": "1e3", "c": "1", "d": None, "e": None, "f": None, "g": "null", "h": "2020-01-01", "i": "0x1F",
        "j": ["1.0", "on", None, ""], "k": ".nan", "l": "two\nlines\n", "m": "ü", "<<": {"x": "1"}, "1": {"2": "3"}, "n": {},
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["application/json", "application/yaml"])
@pytest.mark.parametrize("body", [b"", b" \n\t", b"null", b"\xef\xbb\xbf", b"\xef\xbb\xbfnull"])
def test_an_empty_body_is_a_sentence_about_specs(kind: str, body: bytes) -> None:
    with pytest.raises(InvalidError, match="body is empty; send a notebook spec"):
        read_document(body, kind)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("[]", "has to be an object"),
        ("5", "has to be an object"),
        ('"text"', "has to be an object"),
        ("true", "has to be an object"),
        ("{", "not valid JSON; see line 1"),
        ('{"a": 1,\n}', "not valid JSON; see line 2"),
        ('{"a": 1} {"b": 2}', "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
        ('{"a": "\n"}', "not valid JSON"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ('{"a": 1, "b": 2, "a": 1}', "The field a is there twice"),
        ('{"b": [{"a": 1, "a": 2}]}', "The field a is there twice"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
        ('{"a": ' * DEEPEST + "{}" + "}" * DEEPEST, "nested more than 32"),
        ("[" * 100_000, "nested more than 32"),
        ('{"a":' * 50_000, "nested more than 32"),
        ('{"a": "' + "x" * LONGEST + '"}', "longer than 256 KB"),
    ],
)
def test_what_is_wrong_with_json_is_said(body: str, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence):
        from_json(body)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("- a", "has to be an object"),
        ("a", "has to be an object"),
        ("a: b: c", "not valid YAML; see line 1"),
        ("a: 1\n\tb: 2", "not valid YAML; see line 2"),
        ("a: [1", "not valid YAML"),
        ("a: \x07", "not valid YAML"),
        ('a: "\\UFFFFFFFF"', "not valid YAML"),
        ('a: "\\uD800"', "not valid YAML|surrogate"),
        (f"%YAML 1.{'9' * 5000}\n---\na: 1", "not valid YAML"),
        ("a: &x 1\nb: *x", "anchors and aliases"),
        ("a: *x", "anchors and aliases"),
        ("a: &x [*x]", "anchors and aliases"),
        ("&x a: 1", "anchors and aliases"),
        ("!!python/object/apply:os.system ['true']", "with tags"),
        ("a: !!str 1", "with tags"),
        ("a: ! 1", "with tags"),
        ("a: !<x> 1", "with tags"),
        ("%TAG ! tag:example.org:\n---\na: 1", "with tags"),
        ("a: 1\n---\nb: 2", "one YAML document"),
        ("a: 1\na: 2", "The field a is there twice"),
        ("1: a\n'1': b", "The field 1 is there twice"),
        ("~: 1", "has to be a text"),
        ("? [a]\n: 1", "has to be a text"),
        ("? {a: b}\n: 1", "has to be a text"),
        ("{a: " * DEEPEST + "{}" + "}" * DEEPEST, "nested more than 32"),
        ("[" * 1000, "nested more than 32"),
        ("a: [" + "b," * MOST_VALUES + "]", "more than 10000 values"),
        ("a: " + "x" * LONGEST, "longer than 256 KB"),
    ],
)
@pytest.mark.usefixtures("_parser")
def test_what_is_wrong_with_yaml_is_said(body: str, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence):
        from_yaml(body)


@pytest.mark.parametrize("read", [from_json, from_yaml])
def test_the_deepest_document_is_read(read: Callable[[str], dict[str, Any]]) -> None:
    assert read('{"a": ' * (DEEPEST - 1) + "{}" + "}" * (DEEPEST - 1))


@pytest.mark.parametrize("kind", ["application/json", "application/yaml"])
def test_what_is_not_utf_8_is_refused(kind: str) -> None:
    with pytest.raises(InvalidError, match="not valid UTF-8"):
        read_document('{"a": "ü"}'.encode("latin-1"), kind)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)
TEXTS = st.recursive(
    st.text(),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=8,
)
PIECES = st.sampled_from(
    [*"{}[]:,-?&*!|>'\"%@`#\\~\n ", "a", ": ", "- ", "---", "...", "null", "<<", "\\u", "\\UFFFFFFFF", "D800", "\t", "\r",
     "\0", "\ufeff", "\x85", "1e5", "NaN", "%YAML 1.", "!!", "true", '"a":', "{" * 40]
)  # fmt: skip


class Dumper(yaml.CSafeDumper):
    """Writes texts in quotes, and never an alias."""

    def ignore_aliases(self, data: object) -> bool:
        """Write what is there twice, twice."""
        return True


@given(st.dictionaries(st.text(), TEXTS, max_size=4))
@settings(deadline=None)
def test_texts_come_through_both_formats(fields: dict[str, Any]) -> None:
    assert from_json(json.dumps(fields)) == fields
    assert from_yaml(yaml.dump(fields, Dumper=Dumper, default_style='"')) == fields


@given(
    st.one_of(
        st.binary(),
        st.lists(PIECES).map(lambda pieces: "".join(pieces).encode()),
        VALUES.map(lambda v: json.dumps(v).encode()),
    ),
    st.sampled_from(["application/json", "application/yaml"]),
)
@settings(deadline=None, max_examples=250)
def test_whatever_is_sent_is_a_document_or_a_sentence(body: bytes, kind: str) -> None:
    found, sentence = outcome(lambda: read_document(body, kind))
    if found is None:
        assert sentence.endswith(".") and sentence.isprintable() and len(sentence) < 400
    else:
        assert isinstance(found, dict)
        assert json.loads(json.dumps(found)) == found


@given(st.text())
@settings(deadline=None)
def test_whatever_the_type_says_it_is_supported_or_not(kind: str) -> None:
    outcome(lambda: read_document(b"{}", kind))


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return call(), ""
    except InstanceError as error:
        return None, str(error)


# Notebook specs


def test_what_was_asked_for_survives_its_record() -> None:
    spec = asked(request_with("meta", labels={"team": "a", "example.org/x": ""}))
    instance = Instance("notebook_1_0001", "notebook-1-0001-test-nb", spec, 1.0)
    assert instance_of(to_text(instance)) == instance


def test_names_are_in_lower_case() -> None:
    assert asked(request_with("meta", name="Test-NB2")).name == "test-nb2"
    assert asked(request_with("meta", name="a" * 63)).name == "a" * 63


@pytest.mark.parametrize(
    "name",
    ["", "1a", "-a", "a-", "a_b", "a b", "a/b", "a.b", "a\n", "ä", "\u212a", "a" * 64, "a" * 100_000, "../x", "a\0"],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidError, match=r"^meta\.name has to begin with a letter"):
        asked(request_with("meta", name=name))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "meta is required"),
        ({**REQUEST, "meta": None}, "meta is required"),
        ({**REQUEST, "meta": "x"}, "meta has to be an object"),
        ({**REQUEST, "meta": []}, "meta has to be an object"),
        ({**REQUEST, "environment": None}, "environment is required"),
        ({**REQUEST, "spec": None}, "spec is required"),
        (request_with("meta", name=...), "meta.name is required"),
        (request_with("meta", name=None), "meta.name is required"),
        (request_with("meta", name=["a"]), "meta.name has to be a text"),
        (request_with("meta", namespace={}), "meta.namespace has to be a text"),
        (request_with("environment", name=None), "environment.name is required"),
        (request_with("environment", name={"a": "b"}), "environment.name has to be a text"),
        (request_with("spec", resources=...), "spec.resources is required"),
        (request_with("spec", resources=["cpu=1"]), "spec.resources has to be a text"),
        (request_with("spec", resources="cpu=1,memory=1K"), "memory=1K in spec.resources is not an amount"),
        (request_with("spec", envVars=["A"]), "spec.envVars has to be an object"),
        (request_with("spec", envVars={"A": None}), "spec.envVars.A is required"),
        (request_with("spec", envVars={"A": {}}), "spec.envVars.A has to be a text"),
        (request_with("meta", labels="x"), "meta.labels has to be an object"),
        (request_with("meta", labels={"a": None}), "meta.labels.a is required"),
        ({**REQUEST, "kind": "x"}, "kind is not known; the body has meta, environment, spec"),
        (request_with("meta", ownerID="x"), "meta.ownerID is not known; meta has name, namespace, ownerId, labels"),
        (request_with("environment", kernel="x"), "environment.kernel is not known"),
        (request_with("spec", image="x"), "spec.image is not known; spec has envVars, resources"),
        (request_with("spec", cpu="1"), "spec.cpu is not known; use spec.resources"),
        (request_with("spec", memory=None), "spec.memory is not known; use spec.resources"),
        (request_with("spec", gpu="1"), "spec.gpu is not known; use spec.resources"),
        (request_with("meta", **{"x\u202e\n": "1"}), "is not known"),
        (request_with("meta", **{"x" * 100_000: "1"}), "is not known"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidError) as caught:
        asked(fields)
    assert sentence in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_of_an_environment_its_name_alone_counts() -> None:
    more = {"dockerImage": "evil.example.org/x", "image": "a b", "kernelSpec": {"name": 1}, "description": None}
    assert asked(request_with("environment", **more)).environment == ENVIRONMENT


def test_an_unknown_environment_is_not_found_once_all_else_is_right() -> None:
    unknown = request_with("environment", name="nothing")
    with pytest.raises(UnknownError, match=r"^Environment not found\.$"):
        asked(unknown)
    with pytest.raises(InvalidError):
        asked({**unknown, "spec": {"resources": ""}})


def test_there_is_one_namespace() -> None:
    assert asked(request_with("meta", namespace=...)).namespace == "default"
    assert asked(request_with("meta", namespace=None)).namespace == "default"
    assert notebook_spec(request_with("meta", namespace=...), Instances(namespace="nb"), lookup, None).namespace == "nb"
    for other in ("kube-system", "", "Default", "default "):
        with pytest.raises(InvalidError, match=r'meta\.namespace has to be "default"'):
            asked(request_with("meta", namespace=other))


def test_who_may_act_for_others_says_for_whom() -> None:
    assert asked(REQUEST).owner == OWNER
    assert (
        asked(request_with("meta", ownerId="Ada Lövelace <ada@example.org>")).owner == "Ada Lövelace <ada@example.org>"
    )
    for nobody in (..., None):
        with pytest.raises(InvalidError, match=r"meta\.ownerId is required"):
            asked(request_with("meta", ownerId=nobody))


@pytest.mark.parametrize("owner", ["", " ", "a ", "a\nb", "a\0", "\u202ea", "x" * 129])
def test_other_owners_are_refused(owner: str) -> None:
    with pytest.raises(InvalidError, match=r"meta\.ownerId has to be 1 to 128 printable"):
        asked(request_with("meta", ownerId=owner))


def test_a_caller_with_an_owner_acts_for_nobody_else() -> None:
    assert asked(request_with("meta", ownerId=...), "ada").owner == "ada"
    assert asked(request_with("meta", ownerId=None), "ada").owner == "ada"
    assert asked(request_with("meta", ownerId="ada"), "ada").owner == "ada"
    for other in ("bob", "Ada", "ada ", "", "\n"):
        with pytest.raises(NotYoursError, match="somebody else"):
            asked(request_with("meta", ownerId=other), "ada")


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"team": "a"},
        {"example.org/team": "A.b_c-1"},
        {"x": ""},
        {"a" * 63: "b" * 63},
        {f"k{n}": "v" for n in range(32)},
    ],
)
def test_labels_are_those_of_kubernetes(labels: dict[str, str]) -> None:
    assert asked(request_with("meta", labels=labels)).labels == labels


@pytest.mark.parametrize(
    "labels",
    [
        {"": "a"}, {"-a": "a"}, {"a b": "a"}, {"a/b/c": "d"}, {"/a": "b"}, {"a/": "b"}, {"Example.org/a": "b"}, {"ü": "a"},
        {"a\n": "b"}, {"a" * 64: "b"}, {"a": "b" * 64}, {"a": "-"}, {"a": "b c"}, {"a": "b\n"}, {"a": "ü"},
        {"a." * 127 + "b/c": "d"}, {"x..y/a": "b"}, {f"k{n}": "v" for n in range(33)},
        {f"{'a' * 60}{n}.{'b' * 60}/{'c' * 60}": "d" * 60 for n in range(20)},
    ],
)  # fmt: skip
def test_other_labels_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidError, match=r"meta\.labels"):
        asked(request_with("meta", labels=labels))


def test_variables_are_kept_as_they_are() -> None:
    variables = {
        "A": "",
        "_b9": "ü\n$(X) `x` ${y}",
        "LONG": "x" * 4096,
        "PYTHONUNBUFFERED": "1",
        "ENVIRONMENT": "a",
        "ld_x": "1",
    }
    assert asked(request_with("spec", envVars=variables)).env_vars == variables
    assert asked(request_with("spec", envVars={})).env_vars == {}
    assert asked(request_with("spec", envVars=None)).env_vars is None


@pytest.mark.parametrize(
    "variables",
    [
        {"": "1"}, {"1A": "1"}, {"A-B": "1"}, {"A B": "1"}, {"A=B": "1"}, {"Ä": "1"}, {"A\n": "1"}, {"A\0": "1"},
        {"A" * 257: "1"}, {"A": "x" * 4097}, {"A": "a\0b"}, {f"A{n}": "1" for n in range(65)},
        {f"A{n}": "x" * 4096 for n in range(17)}, {f"A{n}": "\x01" * 4000 for n in range(3)},
    ],
)  # fmt: skip
def test_other_variables_are_refused(variables: dict[str, str]) -> None:
    with pytest.raises(InvalidError, match=r"spec\.envVars"):
        asked(request_with("spec", envVars=variables))


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PYTHONSTARTUP", "PYTHONPATH", "PYTHONHOME", "NB_PREFIX",
     "NB_USER", "JUPYTER_TOKEN", "JUPYTER_CONFIG_DIR", "JUPYTERHUB_API_TOKEN", "NBFOLIO_AUTH__API_TOKEN", "PATH", "HOME",
     "KUBERNETES_SERVICE_HOST", "BASH_ENV", "ENV", "IFS", "SHELLOPTS", "TMPDIR", "XDG_RUNTIME_DIR", "IPYTHONDIR"],
)  # fmt: skip
def test_variables_of_the_server_are_reserved(name: str) -> None:
    with pytest.raises(InvalidError, match=rf"^spec\.envVars\.{name} is reserved"):
        asked(request_with("spec", envVars={name: "x"}))


MEMBERS = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.lists(st.text(max_size=5), max_size=2),
    st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.text(max_size=5)), max_size=2),
)
KEYS = st.sampled_from(
    ["meta", "environment", "spec", "name", "namespace", "ownerId", "labels", "envVars", "resources", "x"]
)


@given(st.dictionaries(KEYS, st.one_of(MEMBERS, st.dictionaries(KEYS, MEMBERS, max_size=3))))
@settings(deadline=None)
def test_whatever_is_asked_for_is_a_spec_or_a_sentence(part: dict[str, Any]) -> None:
    for fields in (part, {**REQUEST, **part}, request_with("meta", **part), request_with("spec", **part)):
        found, sentence = outcome(lambda fields=fields: asked(fields))
        assert found is not None or (sentence.isprintable() and len(sentence) < 400)


# Environment specs

IMAGE = "example.org/team:2"


def kernel(**members: Any) -> dict[str, Any]:
    return {"name": "e", "dockerImage": IMAGE, "kernelSpec": members}


def test_a_whole_environment_is_read() -> None:
    fields = {
        "name": "my-submarine-env",
        "dockerImage": "apache/submarine:jupyter-notebook-0.6.0",
        "kernelSpec": {
            "name": "submarine_jupyter_py3",
            "channels": ["defaults", "conda-forge/label/dev", "https://conda.example.org:8443/x_1/main/"],
            "condaDependencies": ["_ipyw_jlab_nb_ext_conf=0.1.0=py37_0", "anaconda=2020.02=py37_0", "numpy", "python>=3.11,<4", "a=1.*"],
            "pipDependencies": ["apache-submarine==0.5.0", "rich[jupyter,x]>=13,!=13.1.*", "a~=1.0", "b===1!2.0+local.1", "c"],
        },
        "description": "Für alle.",
        "image": None,
    }  # fmt: skip
    kernel_spec = fields["kernelSpec"]
    assert isinstance(kernel_spec, dict)
    assert environment_spec(fields, None) == EnvironmentSpec(
        "my-submarine-env",
        "apache/submarine:jupyter-notebook-0.6.0",
        KernelSpec(
            "submarine_jupyter_py3",
            tuple(kernel_spec["channels"]),
            tuple(kernel_spec["condaDependencies"]),
            tuple(kernel_spec["pipDependencies"]),
        ),
        "Für alle.",
    )


def test_what_is_null_or_missing_is_nothing() -> None:
    assert environment_spec({"name": "e", "dockerImage": IMAGE}, None) == EnvironmentSpec("e", IMAGE)
    assert environment_spec({"dockerImage": IMAGE}, "e") == EnvironmentSpec("e", IMAGE)
    nulls = {"kernelSpec": None, "description": None, "image": None}
    assert environment_spec({"name": "e", "dockerImage": IMAGE, **nulls}, "e") == EnvironmentSpec("e", IMAGE)
    empty = kernel(name=None, channels=None, condaDependencies=[])
    assert environment_spec(empty, None).kernel_spec == KernelSpec(None, (), (), ())


def test_members_are_those_that_were_sent() -> None:
    assert environment_members({"description": None}, "e") == {"name": "e", "description": None}
    assert environment_members({"name": "e", "image": IMAGE}, "e") == {"name": "e", "image": IMAGE}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "name is required"),
        ({"name": "e"}, "dockerImage is required"),
        ({"name": "e", "dockerImage": None}, "dockerImage is required"),
        ({"name": None, "dockerImage": IMAGE}, "name is required"),
        ({"name": ["e"], "dockerImage": IMAGE}, "name has to be a text"),
        ({"name": "e", "dockerImage": {}}, "dockerImage has to be a text"),
        ({"name": "e", "dockerImage": "a b"}, "dockerImage has to be the name of an image"),
        ({"name": "e", "dockerImage": "a;id"}, "dockerImage has to be the name of an image"),
        ({"name": "e", "dockerImage": "x" * 513}, "dockerImage has to be the name of an image"),
        ({"name": "e", "dockerImage": IMAGE, "image": "--x"}, "image has to be the name of an image"),
        ({"name": "e", "dockerImage": IMAGE, "description": "x" * 1025}, "description has to be at most 1024"),
        ({"name": "e", "dockerImage": IMAGE, "description": "a\x1b[31m"}, "description has to be"),
        ({"name": "e", "dockerImage": IMAGE, "kernelSpec": "x"}, "kernelSpec has to be an object"),
        ({"name": "e", "dockerImage": IMAGE, "dockerimage": "x"}, "dockerimage is not known"),
        (kernel(conda=[]), "kernelSpec.conda is not known"),
        (kernel(name="-x"), "kernelSpec.name has to be"),
        (kernel(name="a b"), "kernelSpec.name has to be"),
        (kernel(name="x" * 129), "kernelSpec.name has to be"),
        (kernel(channels="defaults"), "kernelSpec.channels has to be a list of texts"),
        (kernel(pipDependencies=["a", None]), "kernelSpec.pipDependencies has to be a list of texts"),
        (kernel(condaDependencies=["a"] * 129), "kernelSpec.condaDependencies has more than 128"),
    ],
)
def test_what_is_wrong_with_an_environment_is_named(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidError) as caught:
        environment_spec(fields, None)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "9", "x" * 63])
def test_environments_have_plain_names(name: str) -> None:
    assert environment_spec({"name": name, "dockerImage": IMAGE}, None).name == name


@pytest.mark.parametrize("name", ["", ".", "..", "a.", "-a", "_a", "a b", "a/b", "a\n", "ä", "x" * 64])
def test_other_names_of_environments_are_refused(name: str) -> None:
    with pytest.raises(InvalidError, match=r"^name has to be at most 63"):
        environment_spec({"name": name, "dockerImage": IMAGE}, None)


def test_the_name_in_a_body_is_that_of_the_address() -> None:
    with pytest.raises(InvalidError, match=r'^name has to be "e", as in the address'):
        environment_members({"name": "other"}, "e")


HOSTILE = [
    "", " ", "-r x", "--index-url=http://x", "-e.", "a b", "a;b", "a&b", "a|b", "a`b`", "$(a)", "a\nb", "a\n", "'a'", '"a"',
    "a>b c", ">a", "./a", "/etc/passwd", "~", "~/a", "a\\b", "a#b", "a\0", "ä", "{a,b}", "x" * 257, "a>=-1", "a==1;x", "a(1)",
]  # fmt: skip


@pytest.mark.parametrize(
    "item", [*HOSTILE, "a @ https://x", "a@https://x", "https://x/a.whl", "git+https://x", "a[", "a[]", "a=1", "a=="]
)
def test_packages_of_pip_are_names_and_versions(item: str) -> None:
    with pytest.raises(InvalidError, match=r"in kernelSpec\.pipDependencies is not accepted"):
        environment_spec(kernel(pipDependencies=["numpy", item]), None)


@pytest.mark.parametrize("item", [*HOSTILE, "a=1=2=3", "a=", "https://x/a.conda", "a[x=1]", "c::a", "a=1,2", "a=1="])
def test_packages_of_conda_are_names_versions_and_builds(item: str) -> None:
    with pytest.raises(InvalidError, match=r"in kernelSpec\.condaDependencies is not accepted"):
        environment_spec(kernel(condaDependencies=[item]), None)


@pytest.mark.parametrize(
    "item",
    [*HOSTILE, "http://x", "file:///x", "https://", "https://u:p@x", "https://x/?a", "https://x#a", "https://x/../y", "a//b", "a/../b",
     "https://x/$(a)"],
)  # fmt: skip
def test_channels_are_names_and_addresses(item: str) -> None:
    with pytest.raises(InvalidError, match=r"in kernelSpec\.channels is not accepted"):
        environment_spec(kernel(channels=[item]), None)


@given(
    st.sampled_from(["channels", "condaDependencies", "pipDependencies"]),
    st.text(st.sampled_from("ab1.-_=<>!~*+[],:/@;$ \n")),
)
@settings(deadline=None, max_examples=150)
def test_no_package_is_an_option_or_two_arguments(field: str, item: str) -> None:
    found, _ = outcome(lambda: environment_spec(kernel(**{field: [item]}), None))
    assert found is None or (not item.startswith("-") and not set(item) & set("@;$ \n"))


ENVIRONMENT_KEYS = st.sampled_from(
    ["name", "dockerImage", "kernelSpec", "description", "image", "channels", "pipDependencies", "x"]
)


@given(st.dictionaries(ENVIRONMENT_KEYS, st.one_of(MEMBERS, st.dictionaries(ENVIRONMENT_KEYS, MEMBERS, max_size=3))))
@settings(deadline=None)
def test_whatever_an_environment_says_is_a_spec_or_a_sentence(part: dict[str, Any]) -> None:
    for fields in (part, {"name": "e", "dockerImage": IMAGE, **part}):
        found, sentence = outcome(lambda fields=fields: environment_spec(fields, None))
        assert found is not None or (sentence.isprintable() and len(sentence) < 400)
