"""Templates in a job's arguments: text and values in, text out. Pure, and below every other package.

Read `text` (what is literal, what is an expression), `expressions` (what an expression may be, and its value), `shell` (which
argument is read by a shell, and where in it a value may stand), then `arguments`, which the others are used through.
Only a server renders: an agent gets what was rendered.
"""

from hetuflow.templates.arguments import Fault, Rendered, faults, has_templates, render
from hetuflow.templates.text import TemplateError

__all__ = ["Fault", "Rendered", "TemplateError", "faults", "has_templates", "render"]
