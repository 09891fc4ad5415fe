import re

import pytest

from beamkd.report.tables import latex_table


@pytest.mark.parametrize("sign", "&%$#_{}~^\\<>|")
def test_every_sign_of_latex_is_escaped(sign):
    table = latex_table([["x"], [f"a{sign}b"]], "l", "c", "l")
    (cell,) = re.findall(r"a(.+)b \\\\", table)
    assert cell == f"\\{sign}" or re.fullmatch(r"\\text[a-z]+\{\}", cell)
