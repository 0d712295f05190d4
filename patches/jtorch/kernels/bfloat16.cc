// float32 -> bfloat16, to the nearest, ties to even; NaN stays NaN.
const uint32_t* bits = (const uint32_t*)in0_p;
uint16_t* rounded = (uint16_t*)out0_p;
#pragma omp parallel for
for (int64_t i = 0; i < in0->num; i++) {
    const uint32_t u = bits[i];
    rounded[i] = (u & 0x7fffffffu) > 0x7f800000u ? (uint16_t)0x7fc0 : (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}
