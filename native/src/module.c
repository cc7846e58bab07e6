/* The Python module `ctr_streamer_native`, with CPython's stable ABI. streamer/features/native.py declares its types.
 * It keeps the GIL: a call takes 20 to 60 us, and a worker that waits for the GIL after it may wait 5 ms. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

#include "index.h"

#define INTERFACE 1
#define MAX_CAPACITY (1u << 28)

typedef struct {
    PyObject_HEAD
    Index index;
    PyObject *key;   /* bytes */
    PyObject **rows; /* by slot: the bytes object that the index reads, or NULL */
} CandidateIndex;

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(named)) {
    const char *key;
    Py_ssize_t size;
    unsigned long capacity;
    unsigned long long seed;
    if (!PyArg_ParseTuple(args, "s#kK", &key, &size, &capacity, &seed)) return NULL;
    if (capacity > MAX_CAPACITY) return PyErr_Format(PyExc_ValueError, "capacity: at most %u", MAX_CAPACITY);
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    CandidateIndex *self = (CandidateIndex *)alloc(type, 0);
    if (!self) return NULL;
    self->key = PyBytes_FromStringAndSize(key, size);
    self->rows = PyMem_Calloc(capacity + 1, sizeof(PyObject *));
    if (index_init(&self->index, (uint32_t)capacity, seed) || !self->key || !self->rows) {
        Py_DECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void dealloc(CandidateIndex *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    for (uint32_t slot = 0; self->rows && slot < self->index.capacity; slot++) Py_XDECREF(self->rows[slot]);
    PyMem_Free(self->rows);
    index_free(&self->index);
    Py_XDECREF(self->key);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF((PyObject *)type);
}

static int bytes_of(PyObject *object, const uint8_t **bytes, size_t *size) {
    char *start;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(object, &start, &length)) return -1;
    *bytes = (const uint8_t *)start;
    *size = (size_t)length;
    return 0;
}

static PyObject *put(CandidateIndex *self, PyObject *args) {
    unsigned long slot;
    PyObject *row;
    const uint8_t *bytes;
    size_t size;
    if (!PyArg_ParseTuple(args, "kO", &slot, &row) || bytes_of(row, &bytes, &size)) return NULL;
    if (slot >= self->index.capacity || self->rows[slot])
        return PyErr_Format(PyExc_ValueError, "slot %lu: not free", slot);
    if (is_object(bytes, size)) {
        Py_INCREF(row);
        self->rows[slot] = row;
        index_put(&self->index, (uint32_t)slot, bytes, size);
    }
    Py_RETURN_NONE;
}

static PyObject *remove_slot(CandidateIndex *self, PyObject *args) {
    unsigned long slot;
    if (!PyArg_ParseTuple(args, "k", &slot)) return NULL;
    if (slot < self->index.capacity && self->rows[slot]) {
        PyObject *row = self->rows[slot];
        index_remove(&self->index, (uint32_t)slot);
        self->rows[slot] = NULL;
        Py_DECREF(row);
    }
    Py_RETURN_NONE;
}

/* The document with an empty list in place of the candidates. */
static PyObject *rest_of(const uint8_t *document, size_t size, const Cut *cut) {
    PyObject *rest = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(cut->open + 2 + size - cut->close));
    if (!rest) return NULL;
    char *to = PyBytes_AsString(rest);
    memcpy(to, document, cut->open);
    memcpy(to + cut->open, "[]", 2);
    memcpy(to + cut->open + 2, document + cut->close, size - cut->close);
    return rest;
}

static PyObject *slots_of(const Cut *cut) {
    PyObject *slots = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(cut->size * sizeof(uint32_t)));
    if (!slots) return NULL;
    char *to = PyBytes_AsString(slots);
    for (size_t i = 0; i < cut->size; i++) memcpy(to + i * sizeof(uint32_t), &cut->candidates[i].slot, sizeof(uint32_t));
    return slots;
}

static PyObject *unknown_of(const uint8_t *document, const Cut *cut) {
    PyObject *unknown = PyList_New(0);
    for (size_t i = 0; unknown && i < cut->size; i++) {
        const Candidate *c = &cut->candidates[i];
        if (c->slot != NO_SLOT) continue;
        PyObject *pair = Py_BuildValue("(ny#)", (Py_ssize_t)i, (const char *)document + c->start,
                                       (Py_ssize_t)(c->end - c->start));
        if (!pair || PyList_Append(unknown, pair)) Py_CLEAR(unknown);
        Py_XDECREF(pair);
    }
    return unknown;
}

static PyObject *cut(CandidateIndex *self, PyObject *args) {
    PyObject *object;
    Py_ssize_t limit;
    const uint8_t *document, *key;
    size_t size, key_size;
    if (!PyArg_ParseTuple(args, "On", &object, &limit) || bytes_of(object, &document, &size)) return NULL;
    if (bytes_of(self->key, &key, &key_size)) return NULL;
    Cut found = {0};
    long n = limit < 1 ? CUT_REFUSED
                       : index_cut(&self->index, key, key_size, document, size, (size_t)limit, &found);
    PyObject *result = NULL;
    if (n == CUT_NO_MEMORY) {
        PyErr_NoMemory();
    } else if (n < 0) {
        result = Py_NewRef(Py_None);
    } else {
        PyObject *rest = rest_of(document, size, &found), *slots = slots_of(&found);
        PyObject *unknown = unknown_of(document, &found);
        if (rest && slots && unknown) result = PyTuple_Pack(3, rest, slots, unknown);
        Py_XDECREF(rest);
        Py_XDECREF(slots);
        Py_XDECREF(unknown);
    }
    free(found.candidates);
    return result;
}

/* A buffer of `count` values of `size` bytes, aligned for them; otherwise a ValueError. */
static int holds(const Py_buffer *buffer, const char *name, size_t count, size_t size) {
    if ((size_t)buffer->len == count * size && (uintptr_t)buffer->buf % size == 0) return 1;
    PyErr_Format(PyExc_ValueError, "%s: %zd bytes, expected %zu values of %zu", name, buffer->len, count, size);
    return 0;
}

static PyObject *ad_ids_of(PyObject *known, const uint32_t *slots, size_t n) {
    PyObject *ad_ids = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; ad_ids && i < n; i++) {
        PyObject *ad_id = PyList_GetItem(known, (Py_ssize_t)slots[i]);
        if (!ad_id || PyList_SetItem(ad_ids, (Py_ssize_t)i, Py_NewRef(ad_id))) Py_CLEAR(ad_ids);
    }
    return ad_ids;
}

enum { SLOTS, IDS, FLOATS, WORDS, REQUEST, MODULUS, BASE, TO_IDS, TO_FLOATS, TO_PAIRS, TO_KEYS, TO_AD_KEYS, BUFFERS };

static PyObject *gather_checked(PyObject *known, const Py_buffer *b, int is_padded) {
    size_t rows = (size_t)PyList_Size(known), n = (size_t)b[SLOTS].len / 4, pairs = (size_t)b[MODULUS].len / 8;
    if (!rows) return PyErr_Format(PyExc_ValueError, "ad_ids: empty");
    size_t ids = (size_t)b[IDS].len / 4 / rows, floats = (size_t)b[FLOATS].len / 4 / rows;
    if (!holds(&b[SLOTS], "slots", n, 4) || !holds(&b[IDS], "ids", rows * ids, 4) ||
        !holds(&b[FLOATS], "floats", rows * floats, 4) || !holds(&b[WORDS], "words", rows * (pairs + 2), 8) ||
        !holds(&b[REQUEST], "request_words", pairs + 2, 8) || !holds(&b[MODULUS], "modulus", pairs, 8) ||
        !holds(&b[BASE], "base", pairs, 4) || !holds(&b[TO_IDS], "out_ids", n * ids, 4) ||
        !holds(&b[TO_FLOATS], "out_floats", n * floats, 4) || !holds(&b[TO_PAIRS], "out_pairs", n * pairs, 4) ||
        !holds(&b[TO_KEYS], "out_keys", n * 2, 8) || !holds(&b[TO_AD_KEYS], "out_ad_keys", n, 8))
        return NULL;
    const uint32_t *slots = b[SLOTS].buf;
    const uint64_t *modulus = b[MODULUS].buf;
    for (size_t i = 0; i < n; i++)
        if (slots[i] >= rows) return PyErr_Format(PyExc_ValueError, "slots: %u of %zu", slots[i], rows);
    for (size_t j = 0; j < pairs; j++)
        if (!modulus[j] || modulus[j] > INT32_MAX) return PyErr_Format(PyExc_ValueError, "modulus: out of range");
    Gather g = {ids, floats, pairs, b[IDS].buf, b[FLOATS].buf, b[WORDS].buf, b[REQUEST].buf, modulus,
                b[BASE].buf, is_padded, b[TO_IDS].buf, b[TO_PAIRS].buf, b[TO_FLOATS].buf, b[TO_KEYS].buf,
                b[TO_AD_KEYS].buf};
    gather_rows(&g, slots, n);
    return ad_ids_of(known, slots, n);
}

static PyObject *gather(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *known, *sources, *targets, *result = NULL;
    Py_buffer buffers[BUFFERS];
    int is_padded, got = 0;
    if (!PyArg_ParseTuple(args, "OOOp", &known, &sources, &targets, &is_padded)) return NULL;
    if (!PyList_Check(known) || !PyTuple_Check(sources) || !PyTuple_Check(targets) ||
        PyTuple_Size(sources) != TO_IDS || PyTuple_Size(targets) != BUFFERS - TO_IDS)
        return PyErr_Format(PyExc_TypeError, "expected a list, %d sources and %d targets", TO_IDS, BUFFERS - TO_IDS);
    for (; got < BUFFERS; got++) {
        PyObject *object = got < TO_IDS ? PyTuple_GetItem(sources, got) : PyTuple_GetItem(targets, got - TO_IDS);
        if (PyObject_GetBuffer(object, &buffers[got], got < TO_IDS ? PyBUF_SIMPLE : PyBUF_WRITABLE)) break;
    }
    if (got == BUFFERS) result = gather_checked(known, buffers, is_padded);
    while (got) PyBuffer_Release(&buffers[--got]);
    return result;
}

static PyMethodDef index_methods[] = {
    {"cut", (PyCFunction)cut, METH_VARARGS, "cut(document, limit): (rest, slots, unknown), or None"},
    {"put", (PyCFunction)put, METH_VARARGS, "put(slot, row): puts a valid JSON object in a free slot"},
    {"remove", (PyCFunction)remove_slot, METH_VARARGS, "remove(slot): frees a slot"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot index_slots[] = {
    {Py_tp_new, new}, {Py_tp_dealloc, dealloc}, {Py_tp_methods, index_methods}, {0, NULL},
};
static PyType_Spec index_spec = {"ctr_streamer_native.CandidateIndex", sizeof(CandidateIndex), 0, Py_TPFLAGS_DEFAULT,
                                 index_slots};
static PyMethodDef functions[] = {
    {"gather", gather, METH_VARARGS, "gather(ad_ids, sources, targets, is_padded): the ad ids of the slots"},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "ctr_streamer_native", "Finds and joins candidates for ctr-streamer.", -1, functions,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_ctr_streamer_native(void) {
    PyObject *module = PyModule_Create(&definition);
    PyObject *type = module ? PyType_FromSpec(&index_spec) : NULL;
    if (type && !PyModule_AddObjectRef(module, "CandidateIndex", type) &&
        !PyModule_AddIntConstant(module, "INTERFACE", INTERFACE)) {
        Py_DECREF(type);
        return module;
    }
    Py_XDECREF(type);
    Py_XDECREF(module);
    return NULL;
}
