import json

import pytest

from gateway.surfaces.responses.tools import (
    LONGEST_NAME,
    InputReader,
    Toolbox,
    ToolName,
    arguments_of,
    custom_function,
    input_of,
)

# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "function"),
    [
        (ToolName("f"), "f"),
        (ToolName("a.b:c-d"), "a.b:c-d"),  # a function keeps its name
        (ToolName("create", "crm"), "crm__create"),
        (ToolName("create", "mcp__crm__"), "mcp__crm__create"),
        (ToolName("create", "crm.v2"), "crm_v2__create"),
        (ToolName("shell", "functions"), "shell"),
    ],
    ids=lambda value: str(value),
)
def test_a_tool_has_one_function_and_is_found_by_it(tool, function):
    box = Toolbox()
    assert box.add(tool) == box.function_of(tool.name, tool.namespace) == function
    assert box.tool_of(function) == tool


def test_long_names_are_cut_to_what_providers_take_and_stay_apart():
    box = Toolbox()
    tools = [ToolName(f"{'x' * 70}{end}", "group") for end in "ab"]
    functions = [box.add(tool) for tool in tools]
    assert len({*functions}) == 2 and max(map(len, functions)) <= LONGEST_NAME
    assert [box.tool_of(function) for function in functions] == tools


def test_a_name_that_two_tools_would_share_is_told_apart():
    box = Toolbox()
    plain, grouped = ToolName("crm__create"), ToolName("create", "crm")
    functions = [box.add(plain), box.add(grouped)]
    assert functions[0] == "crm__create" != functions[1]
    assert [box.tool_of(function) for function in functions] == [plain, grouped]
    assert box.function_of("create", "crm") == functions[1]


def test_tools_of_another_request_keep_their_names():
    assert Toolbox().function_of("create", "crm") == "crm__create"
    assert Toolbox().tool_of("anything") == ToolName("anything")


def test_the_functions_of_a_namespace_are_known():
    box = Toolbox()
    for tool in (ToolName("a", "n"), ToolName("b"), ToolName("c", "n")):
        box.add(tool)
    assert box.functions_in("n") == ["n__a", "n__c"]


# --- custom tools ----------------------------------------------------------------------------------------------------


def test_a_custom_tool_is_a_function_of_one_text_that_tells_the_grammar():
    function = custom_function("sql", "Run it.", {"type": "grammar", "syntax": "lark", "definition": "start: X"})
    assert function["name"] == "sql" and function["description"] == "Run it."
    parameters = function["parameters"]
    assert parameters["required"] == ["input"] and parameters["properties"]["input"]["type"] == "string"
    assert "lark grammar:\nstart: X" in parameters["properties"]["input"]["description"]


TEXTS = ["", "hello", 'a "b" \\c\n\t\u2028 \U0001f600 \x01', '*** Begin Patch\n+x = "y"\n', "\ud83d alone", "ends in \\", "日本"]
WRITERS = [
    lambda text: json.dumps({"input": text}),
    lambda text: json.dumps({"input": text}, ensure_ascii=False),
    lambda text: json.dumps({"input": text}, indent=2),
    lambda text: json.dumps({"input": text, "more": 1}),
]


@pytest.mark.parametrize("write", WRITERS, ids=["escaped", "as it is", "indented", "with more"])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_the_input_is_read_wherever_its_json_is_cut(text, write):
    arguments = write(text)
    assert input_of(arguments) == text
    for cut in range(len(arguments) + 1):
        reader = InputReader()
        assert reader.feed(arguments[:cut]) + reader.feed(arguments[cut:]) + reader.finish() == text
    reader = InputReader()
    assert "".join([*map(reader.feed, arguments), reader.finish()]) == text


def test_the_input_is_told_as_it_comes():
    reader = InputReader()
    pieces = ['{"in', 'put": "ab', "c\\", "n\\ud83d", "\\ude00", 'd"', "}"]
    assert [reader.feed(piece) for piece in pieces] == ["", "ab", "c", "\n", "\U0001f600", "d", ""]
    assert reader.finish() == ""


def test_text_and_arguments_are_the_same_both_ways():
    assert [input_of(arguments_of(text)) for text in TEXTS] == TEXTS


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("*** Begin Patch", "*** Begin Patch"),  # a model that saw no need for JSON
        ('"SELECT 1"', "SELECT 1"),
        ('{"patch": "x"}', "x"),
        ('{"a": "1", "input": "x"}', "x"),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2}'),
        ("{}", "{}"),
        ('{"input": {"a": 1}}', '{"input": {"a": 1}}'),
        (r'{"input": "\d+\.py"}', r"\d+\.py"),  # a backslash that should have been doubled
        ('{"input": "two\nlines"}', "two\nlines"),
        ('{"input": "cut', "cut"),
        ('{"input": "cut\\', "cut\\"),
        (r'{"input": "\uZZZZ!"}', r"\uZZZZ!"),
    ],
)
def test_what_is_no_such_json_is_made_the_best_of(arguments, text):
    assert input_of(arguments) == text
