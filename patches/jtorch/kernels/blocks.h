// Lists of tensors given by address, cut into blocks that threads can share evenly.
#include <algorithm>
#include <vector>

namespace jittor { namespace {

// Values `from` to `from + count` of the tensor that a row of the table describes.
template <class T>
struct Block {
    const T* row;
    int64_t from, count;
};

// All blocks of a table of `rows` rows of `columns` numbers; column 0 is the number of values. Their order, and with it
// every sum over them, does not depend on the number of threads.
template <class T>
std::vector<Block<T>> blocks(const T* table, int64_t rows, int64_t columns) {
    const int64_t size = 16384;
    std::vector<Block<T>> found;
    for (const T* row = table; row < table + rows * columns; row += columns)
        for (int64_t from = 0; from < row[0]; from += size) found.push_back({row, from, std::min<int64_t>(size, row[0] - from)});
    return found;
}

}}  // namespace
