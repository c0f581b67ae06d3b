// What fused kernels would gain, for probe_pieces.py: candidates, not used by Fovea. NVRTC compiles them without headers.

// ReLU and LRN over five channels. A thread has a position of an image and walks over the channels, with a window of
// activations in registers. x, y: f32 [N,C,HW]; positions: N·HW.
extern "C" __global__ void relu_lrn(const float* __restrict__ x, float* __restrict__ y, int channels, int plane,
                                    int positions, float k, float alpha, float beta) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= positions) return;
    long base = (long)(at / plane) * channels * plane + at % plane;
    float a = 0, b = 0, c = fmaxf(x[base], 0.f), d = channels > 1 ? fmaxf(x[base + plane], 0.f) : 0.f;
    for (int channel = 0; channel < channels; channel++) {
        float e = channel + 2 < channels ? fmaxf(x[base + (long)(channel + 2) * plane], 0.f) : 0.f;
        float s = k + alpha * (a * a + b * b + c * c + d * d + e * e);
        y[base + (long)channel * plane] = c * __powf(s, -beta);
        a = b; b = c; c = d; d = e;
    }
}

// dx = relu'(x) · (dy / s^β − x · 2αβ · Σⱼ dyⱼ xⱼ / sⱼ^(β+1)). s is computed again: two reads and one write of memory.
extern "C" __global__ void relu_lrn_gradient(const float* __restrict__ x, const float* __restrict__ dy,
                                             float* __restrict__ dx, int channels, int plane, int positions, float k,
                                             float alpha, float beta) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= positions) return;
    long base = (long)(at / plane) * channels * plane + at % plane;
    // Activations of channels c-2 … c+6 where `near` is c+2; ratios, gradients and powers of c-2 … c+2.
    float a[9], ratio[5], slope[5], power[5];
    #pragma unroll
    for (int j = 0; j < 9; j++) a[j] = 0;
    #pragma unroll
    for (int j = 0; j < 5; j++) ratio[j] = slope[j] = power[j] = 0;
    #pragma unroll
    for (int j = 0; j < 4; j++) a[5 + j] = j < channels ? fmaxf(x[base + (long)j * plane], 0.f) : 0.f;
    for (int channel = -2; channel < channels; channel++) {
        #pragma unroll
        for (int j = 0; j < 8; j++) a[j] = a[j + 1];
        int far = channel + 6, near = channel + 2;
        if (far >= 4) a[8] = far < channels ? fmaxf(x[base + (long)far * plane], 0.f) : 0.f;
        float s = k + alpha * (a[2] * a[2] + a[3] * a[3] + a[4] * a[4] + a[5] * a[5] + a[6] * a[6]);
        float g = near < channels ? dy[base + (long)near * plane] : 0.f, p = near < channels ? __powf(s, -beta) : 0.f;
        #pragma unroll
        for (int j = 0; j < 4; j++) {
            ratio[j] = ratio[j + 1]; slope[j] = slope[j + 1]; power[j] = power[j + 1];
        }
        ratio[4] = g * a[4] * p / s; slope[4] = g; power[4] = p;
        if (channel >= 0) {
            float pull = 2.f * alpha * beta * a[2] * (ratio[0] + ratio[1] + ratio[2] + ratio[3] + ratio[4]);
            dx[base + (long)channel * plane] = a[2] > 0.f ? slope[2] * power[2] - pull : 0.f;
        }
    }
}

// Max-pool 3×3, stride 2, with the place of the largest value in its window. x: f32 [planes,H,W]; y, place: [planes,h,w].
extern "C" __global__ void pool(const float* __restrict__ x, float* __restrict__ y, unsigned char* __restrict__ place,
                                int height, int width, int h, int w, int total) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    const float* window = x + (long)(at / (w * h)) * height * width + (long)(2 * (at / w % h)) * width + 2 * (at % w);
    float best = window[0];
    int where = 0;
    #pragma unroll
    for (int j = 1; j < 9; j++) {
        float value = window[(j / 3) * width + j % 3];
        if (value > best) { best = value; where = j; }
    }
    y[at] = best;
    place[at] = where;
}

// Its gradient: each pixel adds what the windows around it give, in one order. total: planes·H·W.
extern "C" __global__ void pool_gradient(const float* __restrict__ dy, const unsigned char* __restrict__ place,
                                         float* __restrict__ dx, int height, int width, int h, int w, int total) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= total) return;
    int column = at % width, row = at / width % height;
    long plane = (long)(at / (width * height)) * h * w;
    float sum = 0;
    for (int p = row > 1 ? (row - 1) / 2 : 0; p <= row / 2 && p < h; p++)
        for (int q = column > 1 ? (column - 1) / 2 : 0; q <= column / 2 && q < w; q++)
            if (place[plane + p * w + q] == (row - 2 * p) * 3 + column - 2 * q) sum += dy[plane + p * w + q];
    dx[at] = sum;
}

// Momentum SGD in place, with a copy of the new weights in f16. All f32 [n], copy: f16 [n].
extern "C" __global__ void sgd(float* __restrict__ weights, float* __restrict__ momenta,
                               const float* __restrict__ gradients, unsigned short* __restrict__ copy, int n, float rate,
                               float momentum, float decay) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        float v = momentum * momenta[i] - decay * rate * weights[i] - rate * gradients[i], w = weights[i] + v;
        unsigned short half;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(w));
        momenta[i] = v;
        weights[i] = w;
        copy[i] = half;
    }
}
