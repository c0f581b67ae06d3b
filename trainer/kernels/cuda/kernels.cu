// Kernels for ONNX Runtime's CUDA provider, in single precision; each has a twin in src/ that computes on the CPU.
//
// build.py compiles them by NVRTC, without headers, to the cubins beside this file. Every value is computed by one thread,
// in one order: the same bits in every run. Positions and pixels are numbered over the whole batch.

typedef long long int64;
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

// Number of this thread among all.
__device__ inline int64 thread() { return (int64)blockIdx.x * blockDim.x + threadIdx.x; }

// s^(3/4).
__device__ inline float power(float s) { return sqrtf(s * sqrtf(s)); }

// Local response normalisation over the channels: lrn.rs. A thread has a position of an image and walks over the channels.

struct Lrn {
    int channels, plane;
    // Channels on each side of the sum.
    int reach;
    float alpha, k;
};

// k + alpha · Σ x² around `channel`; `x` is the position in the first channel.
template <int REACH>
__device__ inline float scale(const Lrn& lrn, const float* x, int channel) {
    int reach = REACH ? REACH : lrn.reach;
    float squares = 0;
    for (int near = -reach; near <= reach; near++) {
        int at = channel + near;
        float value = at >= 0 && at < lrn.channels ? x[(int64)at * lrn.plane] : 0.f;
        squares += value * value;
    }
    return lrn.k + lrn.alpha * squares;
}

// The first value of a thread: its position in the first channel of its image.
__device__ inline int64 column(const Lrn& lrn, int64 position) {
    return position / lrn.plane * lrn.channels * lrn.plane + position % lrn.plane;
}

template <int REACH>
__device__ inline void forward(const Lrn& lrn, const float* x, float* y) {
    #pragma unroll 4
    for (int channel = 0; channel < lrn.channels; channel++) {
        int64 at = (int64)channel * lrn.plane;
        y[at] = x[at] / power(scale<REACH>(lrn, x, channel));
    }
}

// dy · x / s^(7/4) of a channel, 0 beyond the last.
template <int REACH>
__device__ inline float ratio(const Lrn& lrn, const float* dy, const float* x, int channel) {
    if (channel < 0 || channel >= lrn.channels) return 0;
    int64 at = (int64)channel * lrn.plane;
    float s = scale<REACH>(lrn, x, channel);
    return dy[at] / power(s) * x[at] / s;
}

// dx = dy / s^(3/4) − x · 2 · alpha · ¾ · Σ ratios around the channel.
template <int REACH>
__device__ inline void gradient(const Lrn& lrn, const float* dy, const float* x, float* dx) {
    const int WINDOW = 2 * REACH + 1;
    // The ratios around the channel, each computed once.
    float ratios[WINDOW];
    #pragma unroll
    for (int near = 1; near < WINDOW; near++) ratios[near] = ratio<REACH>(lrn, dy, x, near - 1 - REACH);
    for (int channel = 0; channel < lrn.channels; channel++) {
        #pragma unroll
        for (int near = 1; near < WINDOW; near++) ratios[near - 1] = ratios[near];
        ratios[WINDOW - 1] = ratio<REACH>(lrn, dy, x, channel + REACH);
        float sum = 0;
        #pragma unroll
        for (int near = 0; near < WINDOW; near++) sum += ratios[near];
        int64 at = (int64)channel * lrn.plane;
        dx[at] = dy[at] / power(scale<REACH>(lrn, x, channel)) - 1.5f * lrn.alpha * x[at] * sum;
    }
}

// The same for any reach, each ratio as often as it is needed.
template <>
__device__ inline void gradient<0>(const Lrn& lrn, const float* dy, const float* x, float* dx) {
    for (int channel = 0; channel < lrn.channels; channel++) {
        float sum = 0;
        for (int near = -lrn.reach; near <= lrn.reach; near++) sum += ratio<0>(lrn, dy, x, channel + near);
        int64 at = (int64)channel * lrn.plane;
        dx[at] = dy[at] / power(scale<0>(lrn, x, channel)) - 1.5f * lrn.alpha * x[at] * sum;
    }
}

extern "C" __global__ void lrn(const float* __restrict__ x, float* __restrict__ y, Lrn lrn, int64 positions) {
    int64 position = thread();
    if (position >= positions) return;
    int64 at = column(lrn, position);
    if (lrn.reach == 2) forward<2>(lrn, x + at, y + at);
    else forward<0>(lrn, x + at, y + at);
}

extern "C" __global__ void lrn_gradient(const float* __restrict__ dy, const float* __restrict__ x, float* __restrict__ dx,
                                        Lrn lrn, int64 positions) {
    int64 position = thread();
    if (position >= positions) return;
    int64 at = column(lrn, position);
    if (lrn.reach == 2) gradient<2>(lrn, dy + at, x + at, dx + at);
    else gradient<0>(lrn, dy + at, x + at, dx + at);
}

// Maximum over windows: pool.rs.

struct Pool {
    // Of the input and of the output.
    int height, width, rows, columns;
    int kernel[2], strides[2], pads[2];
};

// The maximum of the window at `row` and `column`, and its first place in the plane; a NaN is a maximum in no place.
__device__ inline float maximum(const Pool& pool, const float* plane, int row, int column, int* place) {
    int top = row * pool.strides[0] - pool.pads[0], left = column * pool.strides[1] - pool.pads[1];
    int bottom = min(top + pool.kernel[0], pool.height), right = min(left + pool.kernel[1], pool.width);
    top = max(top, 0);
    left = max(left, 0);
    float best = -INFINITY;
    *place = top * pool.width + left;
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) {
            float value = plane[y * pool.width + x];
            if (!(best >= value || best != best)) {
                best = value;
                *place = y * pool.width + x;
            }
        }
    if (best != best) *place = -1;
    return best;
}

// A thread has a pixel of the output.
extern "C" __global__ void max_pool(const float* __restrict__ x, float* __restrict__ y, Pool pool, int64 pixels) {
    int64 pixel = thread();
    if (pixel >= pixels) return;
    int inside = (int)(pixel % ((int64)pool.rows * pool.columns)), place;
    const float* plane = x + pixel / ((int64)pool.rows * pool.columns) * pool.height * pool.width;
    y[pixel] = maximum(pool, plane, inside / pool.columns, inside % pool.columns, &place);
}

// The first window along an axis that a place belongs to.
__device__ inline int first_window(const Pool& pool, int axis, int place) {
    int beyond = place + pool.pads[axis] - pool.kernel[axis];
    return beyond < 0 ? 0 : beyond / pool.strides[axis] + 1;
}

// A thread has a pixel of the input and adds what the windows around it give, in their order.
extern "C" __global__ void max_pool_gradient(const float* __restrict__ dy, const float* __restrict__ x,
                                             float* __restrict__ dx, Pool pool, int64 pixels) {
    int64 pixel = thread();
    if (pixel >= pixels) return;
    int area = pool.height * pool.width, own = (int)(pixel % area), place;
    const float* plane = x + pixel / area * area;
    const float* slopes = dy + pixel / area * pool.rows * pool.columns;
    int y = own / pool.width, x_of = own % pool.width;
    int last_row = min((y + pool.pads[0]) / pool.strides[0], pool.rows - 1);
    int last_column = min((x_of + pool.pads[1]) / pool.strides[1], pool.columns - 1);
    float sum = 0;
    for (int row = first_window(pool, 0, y); row <= last_row; row++)
        for (int column = first_window(pool, 1, x_of); column <= last_column; column++) {
            maximum(pool, plane, row, column, &place);
            if (place == own) sum += slopes[row * pool.columns + column];
        }
    dx[pixel] = sum;
}
