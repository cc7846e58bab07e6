#include "index.h"

#include <stdlib.h>
#include <string.h>

/* A row is first guessed by these first bytes; a wrong guess costs a scan. */
#define GUESSED_BYTES 48
/* A deeper candidate is refused: parsers have limits. */
#define MAX_DEPTH 32
/* Pair columns whose constants are on the stack. */
#define BLOCK 32

static uint64_t load(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t multiply(uint64_t a, uint64_t b) {
    unsigned __int128 r = (unsigned __int128)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

/* wyhash's rounds with a secret seed, so that a sender cannot choose candidates that collide. */
static uint64_t hash_bytes(const uint8_t *p, size_t size, uint64_t seed) {
    uint64_t a = seed ^ (size * 0x9E3779B97F4A7C15u), b = ~seed;
    uint8_t tail[32] = {0};
    size_t at = 0;
    for (; size - at >= 32; at += 32) {
        a = multiply(load(p + at) ^ 0xA0761D6478BD642Fu, load(p + at + 8) ^ a);
        b = multiply(load(p + at + 16) ^ 0xE7037ED1A0B428DBu, load(p + at + 24) ^ b);
    }
    memcpy(tail, p + at, size - at);
    a = multiply(load(tail) ^ 0xA0761D6478BD642Fu, load(tail + 8) ^ a);
    b = multiply(load(tail + 16) ^ 0xE7037ED1A0B428DBu, load(tail + 24) ^ b);
    return multiply(a ^ 0x8EBC6AF09C88C6E3u, b ^ seed);
}

int index_init(Index *index, uint32_t capacity, uint64_t seed) {
    size_t size = 2;
    while (size < 2 * (size_t)capacity) size *= 2;
    index->capacity = capacity;
    index->mask = size - 1;
    index->seed = seed;
    index->rows = calloc((size_t)capacity + 1, sizeof(Row));
    index->table = malloc(size * sizeof(uint32_t));
    index->guesses = malloc(size * sizeof(uint32_t));
    if (!index->rows || !index->table || !index->guesses) return -1;
    memset(index->table, 0xFF, size * sizeof(uint32_t));
    memset(index->guesses, 0xFF, size * sizeof(uint32_t));
    return 0;
}

void index_free(Index *index) {
    free(index->rows);
    free(index->table);
    free(index->guesses);
    index->rows = NULL;
    index->table = index->guesses = NULL;
}

static uint64_t guess_place(const Index *index, const uint8_t *p, size_t size) {
    return hash_bytes(p, size < GUESSED_BYTES ? size : GUESSED_BYTES, index->seed) & index->mask;
}

void index_put(Index *index, uint32_t slot, const uint8_t *bytes, size_t size) {
    uint64_t hash = hash_bytes(bytes, size, index->seed), at = hash & index->mask;
    index->rows[slot] = (Row){hash, bytes, size};
    while (index->table[at] != NO_SLOT) at = (at + 1) & index->mask;
    index->table[at] = slot;
    index->guesses[guess_place(index, bytes, size)] = slot;
}

void index_remove(Index *index, uint32_t slot) {
    Row row = index->rows[slot];
    uint64_t mask = index->mask, hole = row.hash & mask, guess = guess_place(index, row.bytes, row.size);
    if (index->guesses[guess] == slot) index->guesses[guess] = NO_SLOT;
    while (index->table[hole] != slot) hole = (hole + 1) & mask;
    /* Moves later entries of the run into the hole, unless the hole is before their own place. */
    for (uint64_t at = (hole + 1) & mask; index->table[at] != NO_SLOT; at = (at + 1) & mask) {
        uint64_t home = index->rows[index->table[at]].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            index->table[hole] = index->table[at];
            hole = at;
        }
    }
    index->table[hole] = NO_SLOT;
    index->rows[slot] = (Row){0, NULL, 0};
}

static uint32_t find(const Index *index, const uint8_t *p, size_t size) {
    uint64_t hash = hash_bytes(p, size, index->seed);
    for (uint64_t at = hash & index->mask; index->table[at] != NO_SLOT; at = (at + 1) & index->mask) {
        const Row *row = &index->rows[index->table[at]];
        if (row->hash == hash && row->size == size && !memcmp(row->bytes, p, size)) return index->table[at];
    }
    return NO_SLOT;
}

/* The slot of the row that starts at p, if the guess is right. A JSON object contains its own end, so a row whose bytes
 * are here is the whole candidate. */
static uint32_t guess(const Index *index, const uint8_t *p, size_t left) {
    uint32_t slot = index->guesses[guess_place(index, p, left)];
    if (slot == NO_SLOT) return NO_SLOT;
    const Row *row = &index->rows[slot];
    return row->size <= left && !memcmp(row->bytes, p, row->size) ? slot : NO_SLOT;
}

static int is_space(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* The next byte that is no white space, or `end`. */
static const uint8_t *skip_space(const uint8_t *p, const uint8_t *end) {
    while (p < end && is_space(*p)) p++;
    return p;
}

/* Behind the string whose first quote is before p; NULL if it has no end. */
static const uint8_t *skip_string(const uint8_t *p, const uint8_t *end) {
    for (; p < end; p++) {
        if (*p == '"') return p + 1;
        if (*p == '\\' && ++p == end) return NULL;
    }
    return NULL;
}

/* Behind the object or list at p; NULL if its brackets do not match, or are nested more than MAX_DEPTH times. */
static const uint8_t *skip_brackets(const uint8_t *p, const uint8_t *end) {
    uint8_t closes[MAX_DEPTH];
    size_t depth = 0;
    while (p < end) {
        uint8_t c = *p++;
        if (c == '"') {
            if (!(p = skip_string(p, end))) return NULL;
        } else if (c == '{' || c == '[') {
            if (depth == MAX_DEPTH) return NULL;
            closes[depth++] = c == '{' ? '}' : ']';
        } else if (c == '}' || c == ']') {
            if (!depth || closes[--depth] != c) return NULL;
            if (!depth) return p;
        }
    }
    return NULL;
}

int is_object(const uint8_t *bytes, size_t size) {
    return size && *bytes == '{' && skip_brackets(bytes, bytes + size) == bytes + size;
}

/* Behind any value at p; it need not be valid, because the caller parses it. */
static const uint8_t *skip_value(const uint8_t *p, const uint8_t *end) {
    if (*p == '"') return skip_string(p + 1, end);
    if (*p == '{' || *p == '[') return skip_brackets(p, end);
    while (p < end && *p != ',' && *p != '}' && *p != ']' && *p != '"' && !is_space(*p)) p++;
    return p;
}

static int add(Cut *cut, Candidate candidate) {
    if (cut->size == cut->room) {
        size_t room = cut->room ? 2 * cut->room : 512;
        Candidate *more = realloc(cut->candidates, room * sizeof(Candidate));
        if (!more) return -1;
        cut->candidates = more;
        cut->room = room;
    }
    cut->candidates[cut->size++] = candidate;
    return 0;
}

/* The objects of the list at p; *behind is set to the byte behind it. */
static long cut_list(const Index *index, const uint8_t *start, const uint8_t *p, const uint8_t *end, size_t limit,
                     Cut *cut, const uint8_t **behind) {
    for (p++;;) {
        p = skip_space(p, end);
        if (p == end || *p != '{' || cut->size == limit) return CUT_REFUSED;
        uint32_t slot = guess(index, p, (size_t)(end - p));
        const uint8_t *next = slot == NO_SLOT ? skip_brackets(p, end) : p + index->rows[slot].size;
        if (!next) return CUT_REFUSED;
        if (slot == NO_SLOT) slot = find(index, p, (size_t)(next - p));
        if (add(cut, (Candidate){(size_t)(p - start), (size_t)(next - start), slot})) return CUT_NO_MEMORY;
        p = skip_space(next, end);
        if (p == end || (*p != ',' && *p != ']')) return CUT_REFUSED;
        if (*p++ == ']') break;
    }
    *behind = p;
    return (long)cut->size;
}

long index_cut(const Index *index, const uint8_t *key, size_t key_size, const uint8_t *document, size_t size,
               size_t limit, Cut *cut) {
    const uint8_t *end = document + size, *p = skip_space(document, end);
    long found = CUT_REFUSED;
    if (p == end || *p != '{') return CUT_REFUSED;
    for (p++;;) {
        p = skip_space(p, end);
        if (p == end || *p != '"') return CUT_REFUSED;
        const uint8_t *name = p + 1;
        p = skip_string(name, end);
        /* An escape can spell the key a second time. */
        if (!p || memchr(name, '\\', (size_t)(p - name))) return CUT_REFUSED;
        int is_ours = (size_t)(p - 1 - name) == key_size && !memcmp(name, key, key_size);
        p = skip_space(p, end);
        if (p == end || *p != ':') return CUT_REFUSED;
        p = skip_space(p + 1, end);
        if (p == end) return CUT_REFUSED;
        if (is_ours) {
            if (found >= 0 || *p != '[') return CUT_REFUSED;
            cut->open = (size_t)(p - document);
            found = cut_list(index, document, p, end, limit, cut, &p);
            if (found < 0) return found;
            cut->close = (size_t)(p - document);
        } else if (!(p = skip_value(p, end))) {
            return CUT_REFUSED;
        }
        p = skip_space(p, end);
        if (p == end || (*p != ',' && *p != '}')) return CUT_REFUSED;
        if (*p++ == '}') return found; /* the caller's parser judges what follows */
    }
}

static uint64_t mix64(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static uint64_t prepare(uint64_t left) { return mix64(left + 0x9E3779B97F4A7C15u) + 0x9E3779B97F4A7C15u; }

/* The ids of pair columns first to first + width of n rows. */
static void pair_ids(const Gather *g, const uint32_t *slots, size_t n, size_t first, size_t width) {
    uint64_t left[BLOCK], inverse[BLOCK];
    for (size_t j = 0; j < width; j++) {
        left[j] = prepare(g->words[first + j]);
        inverse[j] = UINT64_MAX / g->modulus[first + j];
    }
    for (size_t i = 0; i < n; i++) {
        const uint64_t *right = g->memo_words + slots[i] * (g->pairs + 2) + first;
        int32_t *out = g->out_pairs + i * g->pairs + first;
        for (size_t j = 0; j < width; j++) {
            uint64_t joined = mix64(left[j] ^ right[j]), modulus = g->modulus[first + j];
            /* The quotient is exact or 1 too small. */
            uint64_t rest = joined - (uint64_t)(((unsigned __int128)joined * inverse[j]) >> 64) * modulus;
            rest = rest >= modulus ? rest - modulus : rest;
            int is_padding = g->is_padded && (!right[j] || !g->words[first + j]);
            out[j] = is_padding ? 0 : (int32_t)((int64_t)rest + g->base[first + j]);
        }
    }
}

void gather_rows(const Gather *g, const uint32_t *slots, size_t n) {
    uint64_t low = prepare(g->words[g->pairs]), high = prepare(g->words[g->pairs + 1]);
    for (size_t i = 0; i < n; i++) {
        size_t slot = slots[i];
        const uint64_t *key = g->memo_words + slot * (g->pairs + 2) + g->pairs;
        if (g->ids) memcpy(g->out_ids + i * g->ids, g->memo_ids + slot * g->ids, g->ids * sizeof(int32_t));
        if (g->floats) memcpy(g->out_floats + i * g->floats, g->memo_floats + slot * g->floats, g->floats * sizeof(float));
        g->out_keys[2 * i] = mix64(low ^ key[0]);
        g->out_keys[2 * i + 1] = mix64(high ^ key[1]);
        g->out_ad_keys[i] = key[0];
    }
    for (size_t first = 0; first < g->pairs; first += BLOCK)
        pair_ids(g, slots, n, first, g->pairs - first < BLOCK ? g->pairs - first : BLOCK);
}
