// Rows of a matrix by number. Numbers count from the end where negative; those out of range are left out.
namespace card {

// y[r] = x[index[r]]; x [n, width], y [rows, width]
template <class T, class I>
__global__ void take_each(const T* x, const I* index, T* y, int64_t rows, int64_t n, int64_t width) {
    for (int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; k < rows * width; k += (int64_t)gridDim.x * blockDim.x) {
        int64_t i = index[k / width];
        if (i < 0) i += n;
        if (i >= 0 && i < n) y[k] = x[i * width + k % width];
    }
}

template <class T>
__global__ void copy_each(const T* x, T* y, int64_t n) {
    for (int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; k < n; k += (int64_t)gridDim.x * blockDim.x) y[k] = x[k];
}

template <class T>
__device__ void add_to(T* to, T x) { *to += x; }
__device__ inline void add_to(__nv_bfloat16* to, __nv_bfloat16 x) { put(to, get(*to) + get(x)); }
__device__ inline void add_to(__half* to, __half x) { put(to, get(*to) + get(x)); }

// y[index[r]] += or = values[r]. A thread owns a column of every `owners`-th row (a power of two), so that rows named twice
// come in the same order in every run.
template <bool ADD, class T, class I>
__global__ void give_columns(T* y, const I* index, const T* values, int64_t rows, int64_t n, int64_t width,
                             int64_t owners) {
    const int64_t k = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, c = k % width, mine = k / width;
    if (mine >= owners) return;
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = index[r];
        if (i < 0) i += n;
        if (i < 0 || i >= n || (i & (owners - 1)) != mine) continue;
        T* to = y + i * width + c;
        if (ADD) add_to(to, values[r * width + c]);
        else *to = values[r * width + c];
    }
}

template <class T, class I>
void take_rows(const T* x, const I* index, T* y, int64_t rows, int64_t n, int64_t width) {
    auto kernel = take_each<T, I>;
    LAUNCH(kernel, grid_for(rows * width), BLOCK, 0, x, index, y, rows, n, width);
}

// y = x with the rows added to (ADD) or replaced
template <bool ADD, class T, class I>
void give_rows(const T* x, const I* index, const T* values, T* y, int64_t rows, int64_t n, int64_t width) {
    LAUNCH(copy_each<T>, grid_for(n * width), BLOCK, 0, x, y, n * width);
    auto kernel = give_columns<ADD, T, I>;
    int64_t owners = 1;
    while (owners < 256 && owners * width < 4096) owners *= 2;
    if (rows * width)
        LAUNCH(kernel, (width * owners + BLOCK - 1) / BLOCK, BLOCK, 0, y, index, values, rows, n, width, owners);
}

}  // namespace card
