// Draws of MT19937 (Matsumoto and Nishimura 1998), two outputs for each: 1 where the 53 bits they hold, the first above
// the second, are below a threshold given in its upper 21 bits and its lower 32.
// in0 state [625], 624 words and how many of them are used up  ->  out0 draws, out1 the state after them
const uint32_t high = data["high"], low = data["low"];
uint32_t* mt = (uint32_t*)out1_p;
std::memcpy(mt, in0_p, 625 * sizeof(uint32_t));
uint32_t words[624], at = mt[624];
auto temper = [&]() {
    #pragma omp simd
    for (int i = 0; i < 624; i++) {
        uint32_t y = mt[i];
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c5680u;
        y ^= (y << 15) & 0xefc60000u;
        words[i] = y ^ (y >> 18);
    }
};
auto mix = [](uint32_t a, uint32_t b) {
    const uint32_t y = (a & 0x80000000u) | (b & 0x7fffffffu);
    return (y >> 1) ^ (-(b & 1) & 0x9908b0dfu);
};
auto next = [&]() {
    if (at == 624) {
        #pragma omp simd
        for (int i = 0; i < 227; i++) mt[i] = mt[i + 397] ^ mix(mt[i], mt[i + 1]);
        #pragma omp simd safelen(64)
        for (int i = 227; i < 623; i++) mt[i] = mt[i - 227] ^ mix(mt[i], mt[i + 1]);
        mt[623] = mt[396] ^ mix(mt[623], mt[0]);
        temper();
        at = 0;
    }
    return words[at++];
};
temper();
for (int64_t i = 0; i < out0->num; i++) {
    const uint32_t top = next() & 0x1fffffu, rest = next();
    out0_p[i] = top < high || (top == high && rest < low);
}
mt[624] = at;
