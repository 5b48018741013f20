/* render.c: draws one picture tile, and remembers what it drew.
 *
 * This is the hot loop of the example server: a Julia set, coloured by a palette of waves, one tile per request. Edit
 * any function here while the server runs under `hotreload run` and save; the next request is drawn by the new code.
 *
 *      tile(frame, size)                       called by Python, on any of the server's threads
 *        │
 *      fill()                                  without the GIL, so that tiles are drawn side by side
 *        ├─ take_ticket()                      a function-local static: how many tiles were asked for, ever
 *        ├─ signature()                        which code is this? a hash of what it draws
 *        ├─ cache_find(), cache_store()        the cache: statics and their lock
 *        └─ draw_tile()
 *             └─ draw_row() ─▶ orbit()         where on its path the picture is
 *                  ├─ escape()                 the arithmetic of one point
 *                  └─ colour() ─▶ wave()       what colour that is; wave() is inlined
 *
 * State, and where it lives. None of it is lost when code is swapped:
 *
 *      counters, the cache, its lock           static and global variables of this file
 *      tickets                                 a static inside take_ticket()
 *      tiles_by_this_thread                    one for each thread of the server
 *
 * The cache is keyed by the signature of the code that drew the tile, not by its place alone. Without that, new code
 * would go on serving pictures of the old. With it the old pictures stay where they are and nobody asks for them, and
 * when an edit is taken back, they are found again.
 *
 * The functions below the entry points are not static: built by hotreload each of them keeps an entry of its own, so
 * that an edit replaces the smallest thing there is. Only wave() is meant to disappear into its callers.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TAU            6.283185307179586
#define FRAMES         256    /* the picture's path is closed: frame 256 is frame 0 */
#define SIZE_MAX_PX    512    /* a tile is square; its pixels are three bytes each: red, green, blue */
#define ITERATIONS_MAX 96     /* a point that has not escaped by then is inside */
#define INSIDE         (-1.0) /* what escape() says of such a point */
#define PROBE_SIZE     16     /* signature() draws tiles this small */

/* ---- state ----------------------------------------------------------------------------------------------------- */

/* Tiles are drawn without the GIL: whatever counts them counts atomically. */
unsigned long tiles_drawn;
static unsigned long pixels_drawn;
static unsigned long cache_hits;
static unsigned long cache_misses;
static long long loaded_at; /* set by the module's init, which runs once in the life of a process */
static __thread unsigned long tiles_by_this_thread;

static void add(unsigned long *counter, unsigned long amount) {
    __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED);
}

static unsigned long read_counter(const unsigned long *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* The running number of a request for a tile: 1, 2, 3 and so on, whichever thread asks. */
unsigned long take_ticket(void) {
    static unsigned long tickets;

    return __atomic_add_fetch(&tickets, 1, __ATOMIC_RELAXED);
}

/* ---- the picture ----------------------------------------------------------------------------------------------- */

/* A smooth wave between 0 and 1, once down and up while t goes from 0 to 1. */
static inline double wave(double t) {
    return 0.5 + 0.5 * cos(TAU * t);
}

static unsigned char to_byte(double share) {
    return (unsigned char)(share <= 0 ? 0 : share >= 1 ? 255 : 255 * share);
}

/* The colour of a point that took `level` steps to escape. */
void colour(double level, unsigned char *rgb) {
    double shift = 0.11; /* how far green runs behind red, and blue behind green */
    double t = 0.82 + 0.34 * log2(1 + level);

    if (level == INSIDE) {
        rgb[0] = 9, rgb[1] = 12, rgb[2] = 26;
        return;
    }
    rgb[0] = to_byte(wave(t));
    rgb[1] = to_byte(wave(t - shift));
    rgb[2] = to_byte(wave(t - 2 * shift));
}

/* How many steps the point (x, y) takes to escape under z = z*z + c; a fraction, so that colours blend. */
double escape(double x, double y, double cx, double cy) {
    for (int step = 0; step < ITERATIONS_MAX; step++) {
        double xx = x * x;
        double yy = y * y;

        if (xx + yy > 256)
            return fmax(0, step + 4 - log2(log2(xx + yy)));
        y = 2 * x * y + cy;
        x = xx - yy + cx;
    }
    return INSIDE;
}

/* Where c is at this frame: to and fro along an arc just outside the Mandelbrot set, where the pictures are. */
void orbit(unsigned int frame, double *cx, double *cy) {
    double t = (double)frame / FRAMES;
    double angle = TAU * (0.32 + 0.34 * wave(t));
    double radius = 0.765 + 0.025 * wave(3 * t);

    *cx = radius * cos(angle);
    *cy = radius * sin(angle);
}

/* One row of a tile, from left to right. */
void draw_row(unsigned char *rgb, unsigned int row, unsigned int frame, unsigned int size) {
    double cx, cy;
    double scale = 2.9 / size;

    orbit(frame, &cx, &cy);
    for (unsigned int column = 0; column < size; column++, rgb += 3) {
        double level = escape((column + 0.5) * scale - 1.45, (row + 0.5) * scale - 1.45, cx, cy);

        colour(level, rgb);
    }
}

/* A whole tile into `pixels`, size * size * 3 bytes. */
void draw_tile(unsigned char *pixels, unsigned int frame, unsigned int size) {
    for (unsigned int row = 0; row < size; row++)
        draw_row(pixels + (size_t)row * size * 3, row, frame, size);
}

/* Which code is live: a hash (FNV-1a) of two small tiles, drawn now by the functions above.
 *
 * Any edit that changes the picture changes this number, and taking the edit back brings the number back.
 */
uint32_t signature(void) {
    unsigned char probe[PROBE_SIZE * PROBE_SIZE * 3];
    uint32_t hash = 2166136261u;

    for (unsigned int frame = 0; frame < FRAMES; frame += FRAMES / 2) {
        draw_tile(probe, frame, PROBE_SIZE);
        for (size_t i = 0; i < sizeof probe; i++)
            hash = (hash ^ probe[i]) * 16777619u;
    }
    return hash;
}

/* ---- the cache --------------------------------------------------------------------------------------------------
 *
 *      buckets[]
 *      ┌───┐
 *      │ 0 │──▶ tile ──▶ tile          `next`: tiles whose keys fall into the same bucket
 *      │ 1 │
 *      │ 2 │──▶ tile
 *      └───┘
 *      oldest ──▶ tile ──▶ tile ──▶ tile ◀── newest      `newer`: all tiles by age
 *
 * It holds CACHE_LEN_MAX bytes of pixels; for more the oldest go. All this is under cache_lock; nothing is drawn there.
 */

#define CACHE_BUCKETS 256
#define CACHE_LEN_MAX (64 << 20)

struct tile {
    struct tile *next;
    struct tile *newer;
    uint32_t stamp; /* signature of the code that drew it */
    uint32_t frame;
    uint32_t size;
    unsigned char pixels[];
};

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct tile *buckets[CACHE_BUCKETS];
static struct tile *oldest;
static struct tile *newest;
static unsigned long cached_tiles;
static size_t cached_len;

static size_t len_of(const struct tile *tile) {
    return (size_t)tile->size * tile->size * 3;
}

static struct tile **bucket_of(uint32_t stamp, uint32_t frame, uint32_t size) {
    uint32_t key = (stamp ^ frame * 2654435761u) + size * 40503u;

    return &buckets[(key ^ key >> 16) % CACHE_BUCKETS];
}

static struct tile *find_locked(uint32_t stamp, uint32_t frame, uint32_t size) {
    struct tile *tile = *bucket_of(stamp, frame, size);

    while (tile && (tile->stamp != stamp || tile->frame != frame || tile->size != size))
        tile = tile->next;
    return tile;
}

static void drop_oldest_locked(void) {
    struct tile *tile = oldest;
    struct tile **link = bucket_of(tile->stamp, tile->frame, tile->size);

    while (*link != tile)
        link = &(*link)->next;
    *link = tile->next;
    oldest = tile->newer;
    if (!oldest)
        newest = NULL;
    cached_tiles--;
    cached_len -= len_of(tile);
    free(tile);
}

/* Copies the tile into `pixels` if the cache has it; true when it had. */
int cache_find(unsigned char *pixels, uint32_t stamp, unsigned int frame, unsigned int size) {
    struct tile *tile;

    pthread_mutex_lock(&cache_lock);
    tile = find_locked(stamp, frame, size);
    if (tile)
        memcpy(pixels, tile->pixels, (size_t)size * size * 3);
    pthread_mutex_unlock(&cache_lock);
    add(tile ? &cache_hits : &cache_misses, 1);
    return tile != NULL;
}

/* Keeps a copy of `pixels`. Two threads may have drawn the same tile; the second copy is not kept. */
void cache_store(const unsigned char *pixels, uint32_t stamp, unsigned int frame, unsigned int size) {
    size_t pixels_len = (size_t)size * size * 3;
    struct tile *tile = malloc(sizeof *tile + pixels_len);
    struct tile **bucket = bucket_of(stamp, frame, size);

    if (!tile)
        return; /* a cache may forget */
    *tile = (struct tile){.stamp = stamp, .frame = frame, .size = size};
    memcpy(tile->pixels, pixels, pixels_len);

    pthread_mutex_lock(&cache_lock);
    if (find_locked(stamp, frame, size)) {
        free(tile);
    } else {
        tile->next = *bucket;
        *bucket = tile;
        if (newest)
            newest->newer = tile;
        else
            oldest = tile;
        newest = tile;
        cached_tiles++;
        cached_len += len_of(tile);
        while (cached_len > CACHE_LEN_MAX)
            drop_oldest_locked();
    }
    pthread_mutex_unlock(&cache_lock);
}

/* ---- one request for a tile -------------------------------------------------------------------------------------- */

struct order {
    unsigned int frame;
    unsigned int size;
    int fresh;      /* do not look into the cache, do not put it there */
    uint32_t stamp; /* which code was live at the beginning */
    int whole;      /* it was live at the end, too */
    int hit;
    unsigned long ticket;
    unsigned long by_this_thread;
};

/* Finds or draws what is ordered. Runs without the GIL, on any number of threads at once. */
void fill(struct order *order, unsigned char *pixels) {
    unsigned int frame = order->frame % FRAMES;
    unsigned int size = order->size;

    order->ticket = take_ticket();
    order->stamp = signature();
    order->hit = !order->fresh && cache_find(pixels, order->stamp, frame, size);
    if (!order->hit) {
        draw_tile(pixels, frame, size);
        add(&tiles_drawn, 1);
        add(&pixels_drawn, (unsigned long)size * size);
        order->whole = signature() == order->stamp;
        if (order->whole && !order->fresh)
            cache_store(pixels, order->stamp, frame, size);
    }
    order->by_this_thread = ++tiles_by_this_thread;
}

/* ---- what Python sees ------------------------------------------------------------------------------------------ */

PyDoc_STRVAR(tile_doc,
             "tile(frame, size, fresh=False) -> (pixels, stamp, ticket, by_this_thread, hit, whole)\n\n"
             "Draws a tile, or finds it in the cache unless `fresh`.\n\n"
             "`stamp` is the signature of the code at the beginning; `whole` is false when it was another at\n"
             "the end, since then the picture may be part old, part new, and is not kept.");

static PyObject *render_tile(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"frame", "size", "fresh", NULL};
    struct order order = {.fresh = 0, .whole = 1};
    PyThreadState *thread;
    PyObject *pixels;

    (void)self;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "II|p:tile", names, &order.frame, &order.size, &order.fresh))
        return NULL;
    if (order.size < 1 || order.size > SIZE_MAX_PX)
        return PyErr_Format(PyExc_ValueError, "size must be between 1 and %d, not %u", SIZE_MAX_PX, order.size);
    pixels = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)order.size * order.size * 3);
    if (!pixels)
        return NULL;

    thread = PyEval_SaveThread();
    fill(&order, (unsigned char *)PyBytes_AS_STRING(pixels));
    PyEval_RestoreThread(thread);

    return Py_BuildValue("(NkkkNN)", pixels, (unsigned long)order.stamp, order.ticket, order.by_this_thread,
                         PyBool_FromLong(order.hit), PyBool_FromLong(order.whole));
}

PyDoc_STRVAR(palette_doc,
             "palette(width) -> bytes\n\nOne row of pixels: the colours of points that escape at once, to the "
             "left, to those that take longest.");

static PyObject *render_palette(PyObject *self, PyObject *args) {
    unsigned int width;
    PyObject *pixels;
    unsigned char *rgb;

    (void)self;
    if (!PyArg_ParseTuple(args, "I:palette", &width))
        return NULL;
    if (width < 1 || width > SIZE_MAX_PX)
        return PyErr_Format(PyExc_ValueError, "width must be between 1 and %d, not %u", SIZE_MAX_PX, width);
    pixels = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)width * 3);
    if (!pixels)
        return NULL;
    rgb = (unsigned char *)PyBytes_AS_STRING(pixels);
    for (unsigned int i = 0; i < width; i++)
        colour((double)i * ITERATIONS_MAX / width, rgb + (size_t)i * 3);
    return pixels;
}

PyDoc_STRVAR(counters_doc, "counters() -> dict\n\nWhat has been counted since the process started.");

static PyObject *render_counters(PyObject *self, PyObject *unused) {
    unsigned long cached;
    PyObject *dict = PyDict_New();

    (void)self, (void)unused;
    pthread_mutex_lock(&cache_lock);
    cached = cached_tiles;
    pthread_mutex_unlock(&cache_lock);

    const struct {
        const char *name;
        unsigned long count;
    } counts[] = {
        {"tiles_drawn", read_counter(&tiles_drawn)},
        {"pixels_drawn", read_counter(&pixels_drawn)},
        {"cache_hits", read_counter(&cache_hits)},
        {"cache_misses", read_counter(&cache_misses)},
        {"cached_tiles", cached},
    };
    for (size_t i = 0; dict && i < sizeof counts / sizeof *counts; i++) {
        PyObject *count = PyLong_FromUnsignedLong(counts[i].count);

        if (!count || PyDict_SetItemString(dict, counts[i].name, count) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(count);
    }
    return dict;
}

PyDoc_STRVAR(stamp_doc, "stamp() -> int\n\nThe signature of the code that is live now.");

static PyObject *render_stamp(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyLong_FromUnsignedLong(signature());
}

PyDoc_STRVAR(loaded_at_doc,
             "loaded_at() -> int\n\nWhen the module was initialised, in seconds since 1970. Swapping code does not do "
             "that again.");

static PyObject *render_loaded_at(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyLong_FromLongLong(loaded_at);
}

static PyMethodDef methods[] = {
    {"tile", (PyCFunction)(void (*)(void))render_tile, METH_VARARGS | METH_KEYWORDS, tile_doc},
    {"palette", render_palette, METH_VARARGS, palette_doc},
    {"counters", render_counters, METH_NOARGS, counters_doc},
    {"stamp", render_stamp, METH_NOARGS, stamp_doc},
    {"loaded_at", render_loaded_at, METH_NOARGS, loaded_at_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "render",
    .m_doc = "Draws picture tiles and remembers what it drew.",
    .m_size = -1, /* the state is in this file's statics: one for the process */
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_render(void) {
    PyObject *self = PyModule_Create(&module);

    loaded_at = (long long)time(NULL);
    if (self && (PyModule_AddIntConstant(self, "FRAMES", FRAMES) < 0 ||
                 PyModule_AddIntConstant(self, "SIZE_MAX", SIZE_MAX_PX) < 0)) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}
