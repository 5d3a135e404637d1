"""The help of options, with the defaults that there are."""

import argparse


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells a default where it is a value; none, off and empty are what anybody expects."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if not action.help or action.default in (None, False, [], argparse.SUPPRESS):
            return action.help
        if isinstance(action.default, list):
            return f"{action.help} (default: {' '.join(map(str, action.default))})"
        return super()._get_help_string(action)
