"""YAML text -> plain values, and nothing that a run's settings never need: no aliases, no objects, no keys but names.

Settings may come from a stranger. An alias can make one line stand for millions of values, or for itself, so values are
written where they are used.
"""

from typing import Any

import yaml

_NAME = "tag:yaml.org,2002:str"
_LONGEST_NUMBER = 100  # digits


class PlainYAMLError(Exception):
    """Text that cannot be read; `line` counts from 1, None where it is not known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


def read_yaml(text: str) -> tuple[yaml.Node | None, Any]:
    """The node (it knows its lines) and the plain value of a YAML text; (None, None) where it is empty."""
    try:
        root = yaml.compose(text, Loader=_Loader)
        return root, None if root is None else _Loader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise PlainYAMLError(str(error.problem), line) from None
    except RecursionError:
        raise PlainYAMLError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise PlainYAMLError(" ".join(str(error).split())) from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # What PyYAML raises for a value that is none of its kind: 2020-13-45, a number of 5,000 digits, !!bool 7.
        raise PlainYAMLError(f"a value that cannot be read: {str(error).splitlines()[0]}") from None


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            name, mark = self.peek_event().anchor, self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"the alias *{name}: write the value itself", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_number(self, node: yaml.ScalarNode) -> int:
        """Whole numbers may also be written to the base of 2, 16 and 60, where nothing limits their length."""
        if len(node.value) > _LONGEST_NUMBER:
            raise yaml.MarkedYAMLError(problem=f"a number of {len(node.value)} digits", problem_mark=node.start_mark)
        return self.construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if key.tag != _NAME:
                shown = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise yaml.MarkedYAMLError(
                    problem=f"{shown} where the name of a setting belongs", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
