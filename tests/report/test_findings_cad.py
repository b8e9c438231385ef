import io

import numpy as np
import pytest

from crackflow.core.errors import UserError
from crackflow.report import findings_cad
from tests.helpers.located_findings import CAMERA_ALONE, GEOTIFF, SQUARE, content, finding, photo


def drawing(*photos, **settings):
    ezdxf = pytest.importorskip("ezdxf")
    opened = ezdxf.read(io.StringIO(findings_cad.as_dxf(content(*photos, **settings)).decode()))
    assert not opened.audit().has_errors
    return opened


def outlines(opened, layer):
    return [np.array(line.get_points("xy")) for line in opened.modelspace().query(f'LWPOLYLINE[layer=="{layer}"]')]


def test_pixels_have_no_unit_and_y_points_up():
    opened = drawing(photo(findings=[finding()]))
    (outline,) = outlines(opened, "FINDING_CRACKED")
    assert opened.header["$INSUNITS"] == 0
    np.testing.assert_allclose(outline, [(x, 100 - y) for x, y in SQUARE[:-1]])
    assert all(line.closed for line in opened.modelspace().query("LWPOLYLINE"))


def test_a_scale_makes_millimetres():
    opened = drawing(photo(CAMERA_ALONE, [finding()]), mm_per_px=0.5)
    assert opened.header["$INSUNITS"] == 4
    assert np.ptp(outlines(opened, "FINDING_CRACKED")[0], axis=0).tolist() == [20.0, 10.0]


def test_photographs_lie_side_by_side_and_do_not_overlap():
    opened = drawing(photo(path="a.jpg"), photo(path="b\n.jpg", scale={"mm_per_px": 2.0}), mm_per_px=1.0)
    first, second = outlines(opened, "PHOTOGRAPH")
    assert first.max(0).tolist() == [200, 100] and second[:, 0].min() > 200
    assert np.ptp(second, axis=0).tolist() == [400, 200]
    assert [text.dxf.text for text in opened.modelspace().query("TEXT")] == ["a.jpg", "b.jpg"]


def test_geotiffs_of_one_system_lie_where_they_are_in_its_unit():
    east = GEOTIFF | {"transform": [0.01, 0.0, 500_010.0, 0.0, -0.01, 5_200_000.0]}
    opened = drawing(photo(GEOTIFF, [finding()]), photo(east, [finding(decision="review")]))
    assert opened.header["$INSUNITS"] == 6
    np.testing.assert_allclose(outlines(opened, "FINDING_CRACKED")[0][0], [500_000.1, 5_199_999.8])
    np.testing.assert_allclose(outlines(opened, "FINDING_REVIEW")[0][0], [500_010.1, 5_199_999.8])


@pytest.mark.parametrize("other", [None, GEOTIFF | {"crs": "EPSG:25833"}, GEOTIFF | {"crs": None}])
def test_photographs_without_a_common_system_are_drawn_in_pixels(other):
    opened = drawing(photo(GEOTIFF, [finding()]), photo(other))
    assert opened.header["$INSUNITS"] == 0 and outlines(opened, "FINDING_CRACKED")[0].max() < 1000


def test_degrees_are_no_unit_of_a_drawing():
    place = {"latitude": 47.0, "longitude": 9.0, "crs": "EPSG:4326", "crs_unit": "degree"}
    opened = drawing(photo(place | {"transform": [1e-7, 0.0, 9.0, 0.0, -1e-7, 47.0]}, [finding()]))
    assert outlines(opened, "FINDING_CRACKED")[0].max() == 80


def test_middle_lines_have_a_layer_of_their_own_and_are_open():
    line = {"points": [[10.0, 30.0], [50.0, 30.0]], "widths_px": [2.0, None]}
    opened = drawing(photo(findings=[finding(centerline=[line])]))
    (entity,) = opened.modelspace().query('LWPOLYLINE[layer=="CENTERLINE_CRACKED"]')
    assert not entity.closed and [tuple(point) for point in entity.get_points("xy")] == [(10, 70), (50, 70)]


def test_without_ezdxf_one_line_says_what_to_install(monkeypatch):
    def refused(name):
        raise ImportError(name)

    monkeypatch.setattr(findings_cad.importlib, "import_module", refused)
    with pytest.raises(UserError, match=r"--export: dxf needs ezdxf, .* pip install 'crackflow\[cad\]', or leave dxf"):
        findings_cad.require_ezdxf()
