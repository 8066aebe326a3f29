"""One HTML page that shows a run: pictures, video and numbers inline, so that it can be sent as a single file."""

from torch_es.report.page import write_report as write_report
