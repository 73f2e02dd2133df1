"""Stored values of a DICOM file become the grey that the Standard says; what means nothing is left out and named."""

import math

import numpy as np
import pytest
from pydicom import uid

from pneumo.errors import UnreadableError
from pneumo.films import tone
from tests.support.dicom import RAMP, dcmtk, dicom, full_of, grey, look, packed, quiet, table


def test_eight_bits_without_window_stay_as_they_are():
    film = look(dicom(RAMP))
    np.testing.assert_array_equal(film.pixels, RAMP)
    assert (film.format, film.width, film.height, film.warnings) == ("DICOM", 256, 64, ())
    assert look(dicom(RAMP[:, 90:230])).pixels.min() == 90, "nothing is stretched"


def test_linear_window():  # C.11.2.1.2.1: below c - 0.5 - (w - 1) / 2 black, above c - 0.5 + (w - 1) / 2 white
    assert grey([0, 74, 75, 100, 124, 125, 4000], WindowCenter=100, WindowWidth=51) == [0, 0, 3, 130, 252, 255, 255]
    assert grey([0, 2047, 4095], stored=12, WindowCenter=2048, WindowWidth=4096) == [0, 127, 255]
    np.testing.assert_array_equal(look(dicom(RAMP, WindowCenter=128, WindowWidth=256)).pixels, RAMP)


def test_linear_exact_window():  # C.11.2.1.3.2: (x - c) / w + 0.5
    window = {"WindowCenter": 100, "WindowWidth": 50, "VOILUTFunction": "LINEAR_EXACT"}
    assert grey([74, 75, 85, 100, 125, 126], **window) == [0, 0, 51, 128, 255, 255]


def test_sigmoid_window():  # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w)); at x - c = w / 4 * ln 3 it is 3/4
    window = {"WindowCenter": 1000, "WindowWidth": 4000, "VOILUTFunction": "SIGMOID"}
    third = round(1000 * math.log(3))
    assert grey([1000, 1000 + third, 60_000], **window) == [128, 191, 255]
    assert grey([0], **(window | {"WindowWidth": 1})) == [0]


def test_of_several_windows_the_first_is_taken_and_a_table_goes_before_any():
    assert grey([0, 85, 255], WindowCenter=[128, 10], WindowWidth=[256, 5]) == [0, 85, 255]
    both = {"WindowCenter": 10, "WindowWidth": 5, "VOILUTSequence": table(range(256), 0, 8)}
    assert grey([0, 85, 255], **both) == [0, 85, 255]


def test_rescaled_values_are_windowed():  # C.11.1: slope * x + intercept, 2 * x - 1000
    rescale = {"RescaleSlope": "2", "RescaleIntercept": "-1000", "WindowCenter": 0, "WindowWidth": 201}
    assert grey([0, 450, 500, 549, 4000], **rescale) == [0, 1, 128, 253, 255]  # -99.5 to 100.5 is 0 to 255


def test_a_negative_slope_turns_dark_and_bright_round():
    assert grey([0, 100, 200], RescaleSlope=-1, RescaleIntercept=0) == [255, 128, 0]
    assert grey([0, 100, 255], np.uint8, RescaleSlope=-1, RescaleIntercept=255) == [255, 155, 0]


def test_signed_values():
    window = {"WindowCenter": 0, "WindowWidth": 256}
    assert grey([-2000, -128, -43, 42, 127, 2000], np.int16, **window) == [0, 0, 85, 170, 255, 255]
    assert grey([-128, 0, 127], np.int8) == [0, 128, 255]
    assert grey([-100, 0, 100], np.int16) == [0, 128, 255]


def test_modality_table():  # C.11.1.1.1: below the first mapped value its entry, above the last that one's
    ramp = {"ModalityLUTSequence": table([0, 1000, 3000, 4000], 10, 16), "WindowCenter": 2000.5, "WindowWidth": 4001}
    assert grey([0, 10, 11, 12, 13, 500], **ramp) == [0, 0, 64, 191, 255, 255]


def test_voi_tables():  # C.11.2.1.1
    assert grey([0, 99, 100, 101, 102, 900], VOILUTSequence=table([0, 255, 51], 100, 8)) == [0, 0, 0, 255, 51, 51]
    assert grey([0, 1, 2], VOILUTSequence=table([0, 819, 4095], 0, 12)) == [0, 51, 255]
    assert grey([-6, -5, -4], np.int16, VOILUTSequence=table([65535, 0], -5, 16)) == [255, 255, 0]
    long = [place // 4 for place in range(1024)]  # more places than 8 bits count
    assert grey([0, 400, 1023, 4000], VOILUTSequence=table(long, 0, 8)) == [0, 100, 255, 255]
    after = {"RescaleSlope": 1, "RescaleIntercept": -100, "VOILUTSequence": table([0, 255, 51], 0, 8)}
    assert grey([100, 101, 102], **after) == [0, 255, 51]


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_a_voi_table_may_begin_below_zero_though_no_stored_value_is(syntax):  # C.11.2.1.1: SS, not told in implicit VR
    rescaled = {"stored": 12, "RescaleSlope": 1, "RescaleIntercept": -100}
    ramp = table([300 * place for place in range(201)], -100, 16)
    # entries 0 to 60,000; at -100, 0 and 100 they are 0, 30,000 and 60,000
    assert grey([0, 100, 200], syntax=syntax, **rescaled, VOILUTSequence=ramp) == [0, 128, 255]
    assert grey([40_000, 40_001, 40_002], syntax=syntax, VOILUTSequence=table([0, 255, 51], 40_000, 8)) == [0, 255, 51]
    film = full_of([0, 1], syntax=syntax, VOILUTSequence=table([51, 255], 300, 8))  # all below the first
    assert film.pixels[0, :2].tolist() == [0, 255]
    assert film.warnings == ("VOILUTSequence would show nothing of the film, so it was not used.", tone.NO_SCALE)


@pytest.mark.parametrize("vr", ["OW", "US"])
def test_tables_of_eight_bits_hold_two_entries_a_word(vr, tmp_path):  # C.11.1.1.1 and C.11.2.1.1
    negative = [255 - place for place in range(256)]
    for sequence in ("ModalityLUTSequence", "VOILUTSequence"):
        for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian):
            assert grey([0, 100, 255], np.uint8, syntax, **{sequence: packed(negative, vr)}) == [255, 155, 0]
            assert grey([0, 1, 2, 9], syntax=syntax, **{sequence: packed([0, 255, 51], vr)}) == [0, 255, 51, 51]
        (tmp_path / "film.dcm").write_bytes(dicom(RAMP, **{sequence: packed(negative, vr)}))
        dcmtk("dcmconv", "+tb", tmp_path / "film.dcm", tmp_path / "big.dcm")
        np.testing.assert_array_equal(look((tmp_path / "big.dcm").read_bytes()).pixels, 255 - RAMP)
        cut = packed(negative, vr)
        cut[0].LUTDescriptor[0] = 300
        film = full_of([0, 299], **{sequence: cut})
        assert film.pixels[0, :2].tolist() == [0, 255]
        assert sequence.removesuffix("LUTSequence").title()[:3] in film.warnings[0].title()


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
    ],
)
def test_one_inversion(photometric, shape, inverted):
    elements = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
    expected = [255, 200, 0] if inverted else [0, 55, 255]
    assert grey([0, 55, 255], np.uint8, **elements) == expected
    assert grey([1000, 1055, 1255], **elements, WindowCenter=1128, WindowWidth=256) == expected


def test_without_a_window_wide_values_are_spread_and_that_is_said():
    film = look(dicom(np.resize(np.array([1000, 1100, 1500], np.uint16), (32, 32))))
    assert film.pixels.ravel()[:3].tolist() == [0, 51, 255]
    assert film.warnings == (tone.NO_SCALE,)
    assert grey([7], np.uint16) == [0]


def test_padding_is_black_and_does_not_count():
    padded = {"PixelPaddingValue": 0, "PhotometricInterpretation": "MONOCHROME1"}
    assert grey([0, 1000, 1100, 1500], **padded) == [0, 255, 204, 0]
    assert grey([0, 1000, 4095], **{**padded, "PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4000}) == [255, 0, 0]
    assert grey([-2000, -100, 100], np.int16, PixelPaddingValue=-2000) == [0, 0, 255]
    with pytest.raises(UnreadableError, match="nothing but padding"):
        grey([5], PixelPaddingValue=5)


def test_an_empty_element_is_none_at_all():
    empty = {"WindowCenter": "", "WindowWidth": "", "PresentationLUTShape": "", "RescaleSlope": "", "PatientAge": ""}
    np.testing.assert_array_equal(look(dicom(RAMP, **empty)).pixels, RAMP)


@pytest.mark.parametrize(
    ("elements", "word"),
    [
        ({"WindowCenter": 1, "WindowWidth": 0}, "WindowCenter"),
        ({"WindowCenter": 1, "WindowWidth": -5}, "WindowCenter"),
        ({"WindowCenter": 1}, "WindowCenter"),
        ({"WindowWidth": 1}, "WindowWidth"),
        ({"WindowCenter": "nan", "WindowWidth": 9}, "WindowCenter"),
        ({"WindowCenter": 4000, "WindowWidth": 100}, "WindowCenter"),  # every value of the film is black in it
        ({"VOILUTSequence": table([1, 2], 0, 0)}, "VOILUTSequence"),
        ({"VOILUTSequence": table([7, 7], 0, 8)}, "VOILUTSequence"),
        ({"RescaleSlope": "nan", "RescaleIntercept": "0"}, "RescaleSlope"),
        ({"RescaleSlope": 0, "RescaleIntercept": 5}, "RescaleSlope"),
        ({"ModalityLUTSequence": table([], 0, 16)}, "Modality LUT"),
    ],
)
@quiet
def test_what_means_nothing_is_left_out_and_named(elements, word):
    film = full_of([0, 500, 1000], stored=12, **elements)
    assert film.pixels[0, :3].tolist() == [0, 128, 255]
    assert word in film.warnings[0]
    assert film.warnings[1:] == (tone.NO_SCALE,)


@quiet
def test_of_two_windows_the_second_is_taken_where_the_first_means_nothing():
    for first in (
        {"WindowCenter": [1, 100], "WindowWidth": [0, 201]},
        {"WindowCenter": [9000, 100], "WindowWidth": [9, 201]},
    ):
        film = full_of([0, 100, 200], stored=12, **first)  # 99.5 less or more than 100 are 0 and 255
        assert film.pixels[0, :3].tolist() == [1, 128, 255]
        (warning,) = film.warnings
        assert "WindowCenter" in warning
    after = {"VOILUTSequence": table([7, 7], 0, 8), "WindowCenter": 100, "WindowWidth": 201}
    assert grey([0, 100, 200], stored=12, **after) == [1, 128, 255]


def test_a_decimal_comma_is_no_number():
    values = np.resize(np.array([0, 100, 200], np.uint16), (32, 32))
    data = dicom(values, stored=12, WindowCenter="100.0", WindowWidth="201.0")
    film = look(data.replace(b"100.0", b"100,0").replace(b"201.0", b"201,0"))
    assert film.pixels[0, :3].tolist() == [0, 128, 255]
    assert "WindowCenter" in film.warnings[0]
    two = dicom(values, stored=12, WindowCenter=["9.0", "100"], WindowWidth=["9.0", "201"])
    assert look(two.replace(b"9.0", b"9,0")).pixels[0, :3].tolist() == [1, 128, 255]


def test_an_unknown_function_is_taken_for_linear_and_named():
    film = full_of([0, 100, 200], stored=12, WindowCenter=100, WindowWidth=201, VOILUTFunction="CURVED")
    assert film.pixels[0, :3].tolist() == [1, 128, 255]
    assert film.warnings == ("VOILUTFunction is not understood: the window was taken for linear.",)
    film = full_of([0, 55, 255], np.uint8, PresentationLUTShape="LIN OD", PhotometricInterpretation="MONOCHROME1")
    assert film.pixels[0, :3].tolist() == [255, 200, 0]
    assert "PresentationLUTShape" in film.warnings[0]


def test_a_table_is_scaled_by_its_own_range():
    film = full_of([0, 1, 2], stored=12, VOILUTSequence=table([0, 2**13, 2**14 - 1], 0, 16))  # Agfa: says 16, uses 14
    assert film.pixels[0, :3].tolist() == [0, 128, 255]
    assert film.warnings == ("The table of greys says 16 bits and uses 14: its own range was taken.",)


def test_a_window_four_times_too_wide_is_not_taken_for_the_films_range():
    wide = {"WindowCenter": 2048, "WindowWidth": 4096}
    film = full_of([0, 500, 1000], stored=12, **wide)
    assert film.pixels[0, :3].tolist() == [0, 128, 255]
    assert film.warnings == (tone.UNFILLED.format(1000 / 4095),)
    assert not film.doubtful, "12 bits hold greys enough"
    assert grey([0, 1000, 3000], stored=12, **wide) == [0, 62, 187], "three quarters are filled: the window is right"


def test_a_slope_without_an_intercept_is_a_slope():
    assert grey([0, 50, 100], stored=12, RescaleSlope=2, WindowCenter=100, WindowWidth=201) == [1, 128, 255]
