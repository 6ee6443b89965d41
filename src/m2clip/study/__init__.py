"""Studies: methods x data sets x seeds, trained, tested and told side by side (`m2clip study`).

`config` says what may be set, `plan` makes the cells, `runner` works on them in processes (`lanes`), `cell` is what happens in one,
`results` gathers their files, `figures` and `page` show them.
"""

from m2clip.study.config import Study, StudyConfig, load_study

__all__ = ["Study", "StudyConfig", "load_study"]
