"""What is read from a compiled program, and what is made of it."""

import pytest

from tools import gpu_roofline
from tools.gpu_roofline import CARDS, Operation

# As XLA prints it, shortened: a convolution with its two gradients, a product, a fusion.
PROGRAM = """HloModule jit_step, is_scheduled=true

%fused (param_0: f32[8]) -> f32[8] {
  %copy.9 = f32[8]{0} copy(%param_0)
}

ENTRY %main.30 (x: bf16[64,26,26,16]) -> f32[4096,345] {
  %x = bf16[64,28,28,16]{3,2,1,0} parameter(0)
  %k = bf16[32,3,3,16]{3,2,1,0} parameter(1)
  %conv = (bf16[64,26,26,32]{3,2,1,0}, u8[4096]{0}) custom-call(%x, %k), window={size=3x3}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", \
metadata={op_name="jit(step)/call_exported/study_cnn_1/conv1b_1/convolution"}
  %y = bf16[64,26,26,32]{3,2,1,0} get-tuple-element(%conv), index=0
  %back.1 = (bf16[64,28,28,16]{3,2,1,0}, u8[0]{0}) custom-call(%y, %k), window={size=3x3}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %back.2 = (bf16[32,3,3,16]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y), window={size=3x3}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %a = f32[1024,4096]{1,0} parameter(2)
  %b = f32[1024,345]{1,0} parameter(3)
  %dot = (f32[4096,345]{1,0}, s8[33554432]{0}) custom-call(%a, /*index=1*/%b), \
custom_call_target="__cublas$lt$matmul"
  ROOT %loop_fusion = f32[1024,4096]{1,0} fusion(%a), kind=kLoop, calls=%fused
}
"""


@pytest.fixture(scope="module")
def operations() -> list[Operation]:
    return gpu_roofline.operations(PROGRAM)


def test_what_is_launched(operations):
    kinds = ["convolution", "convolution", "convolution", "product", "fusion"]
    assert [operation.kind for operation in operations] == kinds
    assert operations[0].name == "study_cnn_1/conv1b_1/convolution"
    assert [operation.dtype for operation in operations] == ["bf16"] * 3 + ["f32", ""]


def test_a_convolution_is_as_much_work_as_each_of_its_gradients(operations):
    expected = 2 * 64 * 26 * 26 * 32 * 3 * 3 * 16
    assert [operation.flops for operation in operations[:3]] == pytest.approx([expected] * 3)


def test_the_work_of_a_product(operations):
    assert operations[3].flops == pytest.approx(2 * 1024 * 4096 * 345)
    assert operations[4].flops == 0


def test_what_is_moved_is_inputs_and_result_without_room_to_work_in(operations):
    assert operations[0].moved_bytes == 2 * (64 * 28 * 28 * 16 + 32 * 9 * 16 + 64 * 26 * 26 * 32)
    assert operations[3].moved_bytes == 4 * (1024 * 4096 + 1024 * 345 + 4096 * 345)
    assert operations[4].moved_bytes == 4 * 2 * 1024 * 4096


def _operation(*, moved_bytes: int = 0, flops: float = 0.0) -> Operation:
    return Operation("name", "product" if flops else "fusion", "f32", moved_bytes, flops)


# Sums over the rows of what has 512 columns, and 16; over columns; and a product in 8 parts.
SUMS = """HloModule jit_step

%fused_reduce.1 (param_0: bf16[64,512]) -> f32[512] {
  %param_0 = bf16[64,512]{1,0} parameter(0)
  %convert.1 = f32[64,512]{1,0} convert(%param_0)
  ROOT %reduce.1 = f32[512]{0} reduce(%convert.1, %constant), dimensions={0}, to_apply=%add
}

%fused_reduce.2 (param_0: bf16[2,1024,16]) -> f32[2,16] {
  %param_0 = bf16[2,1024,16]{2,1,0} parameter(0)
  ROOT %reduce.2 = f32[2,16]{1,0} reduce(%param_0, %constant), dimensions={1}, to_apply=%add
}

%fused_reduce.3 (param_0: f32[64,512]) -> f32[64] {
  %param_0 = f32[64,512]{1,0} parameter(0)
  ROOT %reduce.3 = f32[64]{0} reduce(%param_0, %constant), dimensions={1}, to_apply=%add
}

ENTRY %main (a: bf16[64,512]) -> f32[512] {
  %a = bf16[64,512]{1,0} parameter(0)
  %wide = f32[512]{0} fusion(%a), kind=kInput, calls=%fused_reduce.1
  %narrow = f32[2,16]{1,0} fusion(%a), kind=kInput, calls=%fused_reduce.2
  %row = f32[64]{0} fusion(%a), kind=kInput, calls=%fused_reduce.3
  %left = bf16[8,100,16]{2,1,0} parameter(1)
  %right = bf16[8,100,32]{2,1,0} parameter(2)
  %dot = (bf16[8,16,32]{2,1,0}, s8[0]{0}) custom-call(%left, %right), \
custom_call_target="__cublas$gemm"
}
"""


def test_how_wide_a_sum_or_a_convolution_is(operations):
    assert [operation.width for operation in operations] == [16, 16, 16, 0, 0]
    assert [operation.width for operation in gpu_roofline.operations(SUMS)] == [512, 16, 0, 0]


def test_the_work_of_a_product_in_parts():
    *_, product = gpu_roofline.operations(SUMS)
    assert product.flops == pytest.approx(8 * 2 * 100 * 16 * 32)


def test_what_is_narrow_takes_longer():
    card = CARDS["h100"]
    for kind, dtype, flops in (("fusion", "", 0.0), ("convolution", "bf16", 1e12)):
        times = [
            gpu_roofline.secs(Operation("name", kind, dtype, 10**8, flops, width), card)
            for width in (1, 16, 64, 512)
        ]
        assert times[0] > times[1] > times[2] == times[3]


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_no_card_is_faster_than_its_data_sheet(card, operations):
    for operation in operations:
        if operation.dtype in card.rates or not operation.dtype:
            least = operation.moved_bytes / card.bandwidth
            assert gpu_roofline.secs(operation, card) > least
            if operation.flops:
                rate = card.rates[operation.dtype]
                assert gpu_roofline.secs(operation, card) > operation.flops / rate


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (_operation(moved_bytes=10**9), "memory"),
        (_operation(flops=1e14, moved_bytes=1000), "arithmetic"),
        (_operation(moved_bytes=1000), "launches"),
    ],
)
def test_what_bounds_a_step(operation, expected):
    assert gpu_roofline.bound([operation], CARDS["h100"]) == expected


def test_a_card_without_bfloat16_has_no_rate_for_it():
    assert "bf16" not in CARDS["t4"].rates
    assert CARDS["t4"].precision == "mixed_float16"
    assert CARDS["l4"].precision == "mixed_bfloat16"


def test_xla_is_told_the_card():
    text = CARDS["t4"].config()
    assert "cuda_compute_capability { major: 7 minor: 5 }" in text
    assert text.count("{") == text.count("}")
