"""The help of options, with the defaults that there are."""

import argparse


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells a default where it is a value; none, off and empty are what anybody expects."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        nothing = default is None or default is False or default in ([], argparse.SUPPRESS)
        if nothing or not action.help:
            return action.help
        if isinstance(default, list):
            return f"{action.help} (default: {' '.join(map(str, default))})"
        return super()._get_help_string(action)
