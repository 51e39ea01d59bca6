"""Recovery: what a person does when a run was refused, a table is wrong, or something was cut off.

``base`` is what all actions share: an intent before the first write, plain words, a row in ops.recovery_log at the
end. Each action is one story in one module: ``silver`` (restore), ``runs`` (recertify, discard), ``gold`` (complete,
rebuild), ``versions`` (roll back), ``stream`` (checkpoint), ``rerun``; ``status`` looks at everything and writes
nothing.
"""
