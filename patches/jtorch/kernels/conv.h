// Two-dimensional convolution through oneDNN, shared by the three kernels conv_forward.cc, conv_data.cc, conv_weights.cc.
//
// The tensors are plain (NCHW, OIHW); oneDNN computes fastest in layouts of its own. A large picture is therefore worked
// on in bands of rows, copied into that layout and back while they are in the cache, and the copies stay small. What was
// made for a shape is kept: making it takes about as long as a small convolution.
#include <dnnl.h>
#include <omp.h>
#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace jittor { namespace {

enum Kind { FORWARD, DATA, WEIGHTS };

// What a primitive depends on. `x` and `y` may be bands of larger tensors, hence their strides (image, channel).
struct Shape {
    int64_t kind, bias, n, ci, h, w, co, oh, ow, kh, kw, sh, sw, dh, dw, top, bottom, left, right, groups;
    int64_t xn, xc, yn, yc, threads;
};

inline void check(dnnl_status_t status, const char* what) {
    if (status != dnnl_success) LOGf << "oneDNN:" << what << "failed with status" << int(status);
}

inline dnnl_engine_t engine() {
    static dnnl_engine_t one = [] { dnnl_engine_t e; check(dnnl_engine_create(&e, dnnl_cpu, 0), "engine"); return e; }();
    return one;
}

// Memory from Jittor's pool for the length of a block.
struct Temporary {
    size_t size, allocation = 0;
    void* p = nullptr;
    explicit Temporary(size_t n) : size(n) { if (n) p = exe.allocator->alloc(size, allocation); }
    ~Temporary() { if (p) exe.allocator->free(p, size, allocation); }
    Temporary(const Temporary&) = delete;
};

using Argument = std::pair<int, std::pair<const dnnl_memory_desc_t*, void*>>;

inline void execute(dnnl_primitive_t p, std::initializer_list<Argument> l) {
    dnnl_stream_t stream;
    check(dnnl_stream_create(&stream, engine(), dnnl_stream_default_flags), "stream");
    std::vector<dnnl_exec_arg_t> args;
    for (auto& a : l) {
        if (!a.second.second) continue;
        dnnl_memory_t m;
        check(dnnl_memory_create(&m, a.second.first, engine(), a.second.second), "memory");
        args.push_back({a.first, m});
    }
    dnnl_status_t done = dnnl_primitive_execute(p, stream, args.size(), args.data());
    dnnl_stream_wait(stream);
    for (auto& a : args) dnnl_memory_destroy(a.memory);
    dnnl_stream_destroy(stream);
    check(done, "execute");
}

// One of the three tensors: how it lies in memory, how oneDNN wants it, and the copy between the two (null if alike).
struct Side {
    dnnl_memory_desc_t user, own;
    dnnl_primitive_t copy = nullptr;
    ~Side() { if (copy) dnnl_primitive_destroy(copy); }
    size_t bytes() const { return copy ? dnnl_memory_desc_get_size(&own) : 0; }
    void settle(const dnnl_memory_desc_t* wanted, bool result) {
        own = *wanted;
        if (dnnl_memory_desc_equal(&own, &user)) return;
        dnnl_primitive_desc_t pd;
        check(dnnl_reorder_primitive_desc_create(&pd, result ? &own : &user, engine(), result ? &user : &own, engine(),
                                                 nullptr), "reorder");
        check(dnnl_primitive_create(&copy, pd), "reorder");
        dnnl_primitive_desc_destroy(pd);
    }
};

struct Convolution {
    Side x, w, y;
    dnnl_memory_desc_t bias, scratch;
    dnnl_primitive_t primitive = nullptr;
    ~Convolution() { if (primitive) dnnl_primitive_destroy(primitive); }

    // F(4x4, 3x3) takes a quarter of the multiplications. Its error is that of the direct sum from about 64 channels
    // on, and below 16 tiles of 4 x 4 the transformed weights cost more than they save.
    static bool winograd(const Shape& s) {
        const int64_t tiles = s.n * ((s.oh + 3) / 4) * ((s.ow + 3) / 4);
        return s.kind == FORWARD && s.kh == 3 && s.kw == 3 && s.sh == 1 && s.sw == 1 && s.dh == 1 && s.dw == 1
            && s.groups == 1 && s.ci % 16 == 0 && s.co % 16 == 0 && s.ci >= 64 && s.co >= 32
            && std::max(s.top, s.left) <= 1 && tiles >= 24 && tiles * 16 <= s.n * s.oh * s.ow * 3 / 2;
    }

    explicit Convolution(const Shape& s) {
        const dnnl_dims_t xd = {s.n, s.ci, s.h, s.w}, yd = {s.n, s.co, s.oh, s.ow}, bd = {s.co};
        const dnnl_dims_t xs = {s.xn, s.xc, s.w, 1}, ys = {s.yn, s.yc, s.ow, 1};
        const dnnl_dims_t wd = {s.co, s.ci, s.kh, s.kw};
        const dnnl_dims_t gd = {s.groups, s.co / s.groups, s.ci / s.groups, s.kh, s.kw};
        const bool grouped = s.groups > 1;
        const int wn = grouped ? 5 : 4;
        dnnl_memory_desc_t xm, wm, ym;
        check(dnnl_memory_desc_init_by_strides(&x.user, 4, xd, dnnl_f32, xs), "x");
        check(dnnl_memory_desc_init_by_strides(&y.user, 4, yd, dnnl_f32, ys), "y");
        check(dnnl_memory_desc_init_by_tag(&w.user, wn, grouped ? gd : wd, dnnl_f32, grouped ? dnnl_goihw : dnnl_oihw), "w");
        check(dnnl_memory_desc_init_by_tag(&bias, 1, bd, dnnl_f32, dnnl_a), "bias");
        // A kernel of one pixel is a matrix product on the plain layout.
        const bool plain = s.kh * s.kw == 1 && s.sh * s.sw == 1 && s.top + s.bottom + s.left + s.right == 0;
        const auto any = plain ? dnnl_nchw : dnnl_format_tag_any;
        check(dnnl_memory_desc_init_by_tag(&xm, 4, xd, dnnl_f32, s.ci < 16 && !grouped ? dnnl_nchw : any), "x");
        check(dnnl_memory_desc_init_by_tag(&ym, 4, yd, dnnl_f32, any), "y");
        check(dnnl_memory_desc_init_by_tag(&wm, wn, grouped ? gd : wd, dnnl_f32, dnnl_format_tag_any), "w");
        if (!(winograd(s) && make(s, xm, wm, ym, dnnl_convolution_winograd)))
            if (!make(s, xm, wm, ym, dnnl_convolution_direct)) {
                check(dnnl_memory_desc_init_by_tag(&xm, 4, xd, dnnl_f32, dnnl_format_tag_any), "x");
                check(dnnl_memory_desc_init_by_tag(&ym, 4, yd, dnnl_f32, dnnl_format_tag_any), "y");
                if (!make(s, xm, wm, ym, dnnl_convolution_direct)) LOGf << "oneDNN has no convolution for this shape";
            }
    }

    bool make(const Shape& s, const dnnl_memory_desc_t& xm, const dnnl_memory_desc_t& wm, const dnnl_memory_desc_t& ym,
              dnnl_alg_kind_t how) {
        const dnnl_dims_t stride = {s.sh, s.sw}, dilation = {s.dh - 1, s.dw - 1};
        const dnnl_dims_t before = {s.top, s.left}, after = {s.bottom, s.right};
        dnnl_primitive_attr_t attr;
        check(dnnl_primitive_attr_create(&attr), "attributes");
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
        dnnl_convolution_desc_t d;
        dnnl_primitive_desc_t hint = nullptr, pd = nullptr;
        // "training": Winograd then takes the weights as they are, which is faster than a copy of transformed ones
        dnnl_status_t st = dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_training, how, &xm, &wm,
            s.bias ? &bias : nullptr, &ym, stride, dilation, before, after);
        if (st == dnnl_success)
            st = dnnl_primitive_desc_create(s.kind == FORWARD ? &pd : &hint, &d, attr, engine(), nullptr);
        if (st == dnnl_success && s.kind != FORWARD) {
            st = s.kind == DATA
                ? dnnl_dilated_convolution_backward_data_desc_init(&d, how, &xm, &wm, &ym, stride, dilation, before, after)
                : dnnl_dilated_convolution_backward_weights_desc_init(&d, how, &xm, &wm, nullptr, &ym, stride, dilation,
                                                                      before, after);
            if (st == dnnl_success) st = dnnl_primitive_desc_create(&pd, &d, attr, engine(), hint);
        }
        if (st == dnnl_success) {
            auto md = [&](dnnl_query_t q) { return dnnl_primitive_desc_query_md(pd, q, 0); };
            x.settle(md(s.kind == DATA ? dnnl_query_diff_src_md : dnnl_query_src_md), s.kind == DATA);
            w.settle(md(s.kind == WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md), s.kind == WEIGHTS);
            y.settle(md(s.kind == FORWARD ? dnnl_query_dst_md : dnnl_query_diff_dst_md), s.kind == FORWARD);
            scratch = *md(dnnl_query_scratchpad_md);
            check(dnnl_primitive_create(&primitive, pd), "convolution");
        }
        if (pd) dnnl_primitive_desc_destroy(pd);
        if (hint) dnnl_primitive_desc_destroy(hint);
        dnnl_primitive_attr_destroy(attr);
        return st == dnnl_success;
    }

    void run(int kind, const float* xp, const float* wp, const float* bp, const float* yp) const {
        Temporary xt(x.bytes()), wt(w.bytes()), yt(y.bytes()), st(dnnl_memory_desc_get_size(&scratch));
        const Side* sides[] = {&x, &w, &y};
        void* user[] = {(void*)xp, (void*)wp, (void*)yp};
        void* own[] = {x.copy ? xt.p : user[0], w.copy ? wt.p : user[1], y.copy ? yt.p : user[2]};
        const int result = kind == FORWARD ? 2 : kind == DATA ? 0 : 1;
        for (int i = 0; i < 3; i++)
            if (i != result && sides[i]->copy)
                execute(sides[i]->copy, {{DNNL_ARG_FROM, {&sides[i]->user, user[i]}},
                                         {DNNL_ARG_TO, {&sides[i]->own, own[i]}}});
        execute(primitive, {{kind == DATA ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, {&x.own, own[0]}},
                            {kind == WEIGHTS ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, {&w.own, own[1]}},
                            {kind == FORWARD ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, {&y.own, own[2]}},
                            {DNNL_ARG_BIAS, {&bias, (void*)bp}}, {DNNL_ARG_SCRATCHPAD, {&scratch, st.p}}});
        if (sides[result]->copy)
            execute(sides[result]->copy, {{DNNL_ARG_FROM, {&sides[result]->own, own[result]}},
                                          {DNNL_ARG_TO, {&sides[result]->user, user[result]}}});
    }
};

// The convolution of a shape, made once. A shape is 25 numbers and nothing else, so an entry is never out of date.
inline std::shared_ptr<Convolution> find(Shape s) {
    static std::mutex lock;
    static std::map<std::array<int64_t, 25>, std::shared_ptr<Convolution>> known;
    s.threads = omp_get_max_threads();  // oneDNN plans for this number
    std::array<int64_t, 25> key;
    static_assert(sizeof(key) == sizeof(s), "every number of a shape belongs to the key");
    memcpy(key.data(), &s, sizeof(s));
    std::lock_guard<std::mutex> guard(lock);
    auto at = known.find(key);
    if (at != known.end()) return at->second;
    if (known.size() >= 256) known.clear();  // those at work live on in their callers
    return known[key] = std::make_shared<Convolution>(s);
}

inline int64_t parts(int64_t size, int64_t limit) {
    return std::max<int64_t>(1, (size + limit - 1) / std::max<int64_t>(limit, 1));
}

// y = conv(x, w) + bias in pieces: images, bands of rows, and output channels where weights are large.
// `weights(o, count)` gives the weights of some output channels as [count, ci / groups, kh, kw].
template <class F>
void convolve(const Shape& all, const float* x, F weights, const float* bias, float* y) {
    const int64_t pixels = 16384;  // per piece: enough to hide the transformed weights, and a few megabytes
    const int64_t images = std::max<int64_t>(1, std::min(all.n, pixels / std::max<int64_t>(all.oh * all.ow, 1)));
    const bool one = all.kh * all.kw == 1 && all.sh * all.sw == 1;
    const bool far = all.top > all.dh * (all.kh - 1);  // a band could lie in the padding altogether
    const int64_t bands = one || far ? 1 : parts(all.oh * all.ow * images, pixels + pixels / 2);
    const int64_t rows = (parts(all.oh, bands) + 3) / 4 * 4;
    const int64_t chunks = all.groups > 1 || all.co % 16 ? 1 : parts(all.ci * all.co * 36 * 4, 64 << 20);
    const int64_t channels = chunks == 1 ? all.co : (all.co / 16 + chunks - 1) / chunks * 16;
    for (int64_t o = 0; o < all.co; o += channels) {
        const int64_t co = std::min(channels, all.co - o);
        auto w = weights(o, co);
        for (int64_t b = 0; b < all.n; b += images)
            for (int64_t r = 0; r < all.oh; r += rows) {
                Shape s = all;
                s.n = std::min(images, all.n - b);
                s.co = co;
                s.oh = std::min(rows, all.oh - r);
                const int64_t first = r * all.sh - all.top;
                const int64_t last = (r + s.oh - 1) * all.sh - all.top + all.dh * (all.kh - 1) + 1;
                const int64_t from = std::max<int64_t>(first, 0), to = std::min(last, all.h);
                s.top = from - first;
                s.bottom = last - to;
                s.h = to - from;
                find(s)->run(FORWARD, x + b * all.xn + from * all.w, w, bias ? bias + o : nullptr,
                             y + b * all.yn + o * all.yc + r * all.ow);
            }
    }
}

}}  // namespace
