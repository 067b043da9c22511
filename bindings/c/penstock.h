/* SPDX-FileCopyrightText: The Penstock authors
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Penstock's C ABI: C99, opaque handles, integer status, no exceptions, no C++ types.
 *
 *   penstock_options* options;
 *   penstock_options_create(&options);
 *   penstock_options_set(options, "scheduler", "10.0.0.1:7070");
 *   penstock_worker* worker;
 *   penstock_worker_start(options, &worker);                returns when the job is complete
 *   penstock_tensor* tensor;
 *   penstock_tensor_create(7, &gradients, &parameters, &tensor);   two DLTensors, lent
 *   penstock_tensor_set(tensor, "optimizer", "adamw:learning_rate=0.001");
 *   penstock_worker_declare(worker, &tensor, 1);            parameters hold the initial values
 *   for (round = 1; …; ++round) {
 *     … fill gradients …
 *     penstock_worker_push_pull(worker, 7, round);          buffers are lent until …
 *     penstock_worker_wait(worker, 7, round, PENSTOCK_DEFAULT_TIMEOUT);   … this returns
 *   }
 *   penstock_worker_leave(worker);
 *   penstock_worker_destroy(worker);
 *
 * Status: every function that can fail returns PENSTOCK_OK (0) or another penstock_status; the
 * sentence for people is penstock_last_error(), of the calling thread, until its next failing call.
 * Every call ends: by its deadline at the latest. Times are milliseconds.
 *
 * Threads: functions of one worker may be called from any threads at once; calls on one key from
 * one thread at a time; create and destroy of a handle alone. NULL handles give
 * PENSTOCK_INVALID_ARGUMENT, except that destroying NULL does nothing.
 *
 * Ownership: handles belong to the caller, strings that are returned to the library. Buffers are
 * lent: they must live, at the same address, until penstock_worker_remove() or the worker's end. */

#include <dlpack/dlpack.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PENSTOCK_API __attribute__((visibility("default")))

/* major·10000 + minor·100 + patch: of this header, and of the library that is loaded. A library
 * serves every program that was built against an older header of the same major version. */
#define PENSTOCK_VERSION 100
PENSTOCK_API uint32_t penstock_version(void);

typedef enum penstock_status {
  PENSTOCK_OK = 0,
  PENSTOCK_INVALID_ARGUMENT = 1, /* the caller asked for something that cannot be */
  PENSTOCK_NOT_FOUND = 2,        /* the named thing does not exist */
  PENSTOCK_ALREADY_EXISTS = 3,   /* the named thing exists already */
  PENSTOCK_MISMATCH = 4,         /* workers disagree about a key */
  PENSTOCK_TIMEOUT = 5,          /* a deadline passed */
  PENSTOCK_PEER_LOST = 6,        /* a process of the job is gone or silent */
  PENSTOCK_CONNECTION_LOST = 7,  /* one connection broke */
  PENSTOCK_STALE = 8,            /* an old round or region */
  PENSTOCK_PROTOCOL = 9,         /* bytes from a peer that no correct peer sends */
  PENSTOCK_ACCESS = 10,          /* outside a region */
  PENSTOCK_UNAUTHENTICATED = 11, /* wrong or missing secret */
  PENSTOCK_EXHAUSTED = 12,       /* a queue, a limit or memory is full */
  PENSTOCK_UNSUPPORTED = 13,     /* not available here */
  PENSTOCK_CANCELLED = 14,       /* ended because the owner closed or left */
  PENSTOCK_SYSTEM = 15,          /* the operating system refused */
  PENSTOCK_NOT_FINITE = 16       /* a NaN or an infinity in a gradient ended the round */
} penstock_status;

/* "timeout", "peer lost", …; "unknown status" for other numbers. */
PENSTOCK_API const char* penstock_status_name(int status);
/* The last failure of this thread, one sentence: what was tried, with whom, why not, the way out.
 * "" before any. */
PENSTOCK_API const char* penstock_last_error(void);
/* The peer it names: "server 1 (host:pid)"; "" if none. */
PENSTOCK_API const char* penstock_last_error_peer(void);

/* ---- options: of a worker, a server or a scheduler -----------------------------------------
 *
 * name            value                                              default
 * scheduler       "host:port" of the scheduler; not for itself       –
 * listen          "host:port": control connections come in here      127.0.0.1:0
 * transport       auto, shm, verbs, ucx, tcp                         auto
 * advertise_host  what peers connect data to                         the host of listen
 * rails           verbs: "mlx5_0,mlx5_1:1"                           all active ports
 * secret_file     the job secret                                     $PENSTOCK_SECRET_FILE
 * insecure        0, 1: no secret, neither authenticated nor encrypted    0
 * encrypt         0, 1: data as well as control                      0
 * rank            0 …                                                any
 * pin             0, 1: lanes to processors of their own             1
 * detect_ms       after this silence a peer is dead                  3000
 * timeout_ms      of every call                                      60000
 * scheduler only:
 * workers, servers, lanes   how many; lanes per process              1
 * slice_bytes               what a tensor is cut into                262144
 */
typedef struct penstock_options penstock_options;
PENSTOCK_API int penstock_options_create(penstock_options** options);
/* PENSTOCK_NOT_FOUND naming an unknown option, PENSTOCK_INVALID_ARGUMENT naming a wrong value. */
PENSTOCK_API int penstock_options_set(penstock_options* options, const char* name,
                                      const char* value);
PENSTOCK_API void penstock_options_destroy(penstock_options* options);

/* ---- tensors: what declare() takes ---------------------------------------------------------
 *
 * `gradients` and `parameters` describe memory of the caller's: CPU or CUDA-pinned, contiguous
 * (strides NULL or row-major), float32, float16 or bfloat16, the same shape, every dimension ≥ 1.
 * Other devices, dtypes and strides are refused in words, nothing is copied. The DLTensors
 * themselves are only read during the call.
 *
 * name         value                                              default
 * name         for people and errors                              ""
 * optimizer    "sgd", "adamw:learning_rate=0.001,beta2=0.95", …   sgd
 * reduce       mean, sum                                          mean
 * priority     an integer; higher goes first                      0
 * not_finite   a gradient with a NaN or an infinity: accept; skip   accept
 *              that worker this round; or fail the round for all
 * gradient_scale   a factor on the sum or mean, above 0           1
 * codec        of gradients on the wire: none, int8:block=256, 2bit:threshold=0.5, topk, …   none
 * initial      worker0: its parameter buffer; or "zeros", "constant:A", "uniform:A,B,SEED",
 *              "normal:MEAN,DEVIATION,SEED" on the servers        worker0
 */
typedef struct penstock_tensor penstock_tensor;
PENSTOCK_API int penstock_tensor_create(uint64_t key, const DLTensor* gradients,
                                        const DLTensor* parameters, penstock_tensor** tensor);
PENSTOCK_API int penstock_tensor_set(penstock_tensor* tensor, const char* name, const char* value);
PENSTOCK_API void penstock_tensor_destroy(penstock_tensor* tensor);

/* ---- worker --------------------------------------------------------------------------------
 *
 * declare, remove and barrier are collective: every worker makes the same calls in the same order.
 */
typedef struct penstock_worker penstock_worker;

#define PENSTOCK_DEFAULT_TIMEOUT (-1) /* the option timeout_ms */

/* Connects and waits until the job is complete. */
PENSTOCK_API int penstock_worker_start(const penstock_options* options, penstock_worker** worker);
/* Without leave() before, the others take this for a death. */
PENSTOCK_API void penstock_worker_destroy(penstock_worker* worker);

PENSTOCK_API int penstock_worker_rank(const penstock_worker* worker, uint32_t* rank);
PENSTOCK_API int penstock_worker_count(const penstock_worker* worker, uint32_t* workers);
PENSTOCK_API int penstock_server_count(const penstock_worker* worker, uint32_t* servers);

/* Registered memory on which servers of this host read gradients in place; zeroed, page-aligned.
 * Free it after the keys in it are removed, and before the worker is destroyed. */
PENSTOCK_API int penstock_worker_allocate(penstock_worker* worker, size_t bytes, void** memory);
PENSTOCK_API int penstock_worker_free(penstock_worker* worker, void* memory);

/* The tensors may be destroyed afterwards; their buffers stay lent. */
PENSTOCK_API int penstock_worker_declare(penstock_worker* worker, penstock_tensor* const* tensors,
                                         size_t count);
PENSTOCK_API int penstock_worker_remove(penstock_worker* worker, const uint64_t* keys,
                                        size_t count);
PENSTOCK_API int penstock_worker_barrier(penstock_worker* worker);

/* Starts round 1, 2, 3, … of a key: the gradients go to the servers, the parameters come back.
 * Returns at once; the buffers are the caller's again when wait() or test() says so. */
PENSTOCK_API int penstock_worker_push_pull(penstock_worker* worker, uint64_t key, uint64_t round);
/* The same with nothing to add: this worker only receives the round's parameters. */
PENSTOCK_API int penstock_worker_pull(penstock_worker* worker, uint64_t key, uint64_t round);
/* PENSTOCK_TIMEOUT names what is missing; the round goes on and may be waited for again.
 * timeout_ms: 0 looks once, PENSTOCK_DEFAULT_TIMEOUT. */
PENSTOCK_API int penstock_worker_wait(penstock_worker* worker, uint64_t key, uint64_t round,
                                      int64_t timeout_ms);
/* *finished: 1 when the round is over, 0 while it goes on. */
PENSTOCK_API int penstock_worker_test(penstock_worker* worker, uint64_t key, uint64_t round,
                                      int* finished);
/* Ends this worker's part; no round may be running. Afterwards only destroy() is of use. */
PENSTOCK_API int penstock_worker_leave(penstock_worker* worker);

/* Counters of the data that moved, by name ("tcp.bytes_sent", …): writes at most `capacity` of
 * them and their true number to *count. Names live as long as the worker. */
typedef struct penstock_counter {
  const char* name;
  uint64_t value;
} penstock_counter;
PENSTOCK_API int penstock_worker_counters(penstock_worker* worker, penstock_counter* counters,
                                          size_t capacity, size_t* count);

/* ---- state: what servers keep of a key between rounds, for checkpoints -----------------------
 *
 * Planes of the flattened tensor: the parameters in float32, then the optimizer's own (momentum: 1;
 * adam: m, v; …), float32 or bfloat16. A job with other servers or slices may take them. One worker
 * calls while no round of the key runs on any: barrier, read or write, barrier. The workers'
 * parameter buffers are not touched. Not for adafactor, nor on GPU servers. timeout_ms as in
 * wait().
 */
typedef struct penstock_key_state penstock_key_state;
PENSTOCK_API int penstock_worker_read_state(penstock_worker* worker, uint64_t key,
                                            int64_t timeout_ms, penstock_key_state** state);
/* Steps the optimizer has made: what bias corrections and schedules go on from. */
PENSTOCK_API uint64_t penstock_key_state_steps(const penstock_key_state* state);
PENSTOCK_API size_t penstock_key_state_count(const penstock_key_state* state);
/* Describes plane `index`, one dimension, in memory of the state's: valid as long as it is. */
PENSTOCK_API int penstock_key_state_get(const penstock_key_state* state, size_t index,
                                        DLTensor* plane);
PENSTOCK_API void penstock_key_state_destroy(penstock_key_state* state);
/* PENSTOCK_INVALID_ARGUMENT when the planes are not the key's, and nothing was changed; after any
 * other error the key's state is undefined until it is written again. The planes may have the
 * tensor's shape. They are only read, during the call. */
PENSTOCK_API int penstock_worker_write_state(penstock_worker* worker, uint64_t key, uint64_t steps,
                                             const DLTensor* planes, size_t count,
                                             int64_t timeout_ms);

/* ---- publications: parameters for readers outside the rounds ---------------------------------
 *
 * A worker leaves a tensor under a name and a version at a server, which keeps the newest; other
 * workers fetch it, waiting for a version that is not there yet. The tensor: CPU or CUDA-pinned,
 * contiguous, any dtype of whole bytes, 1 to 8 dimensions or a scalar. Its memory is lent until the
 * call returns PENSTOCK_OK; if the call fails, until the worker is destroyed. timeout_ms as in
 * wait(). name: 1 to 255 bytes.
 */
/* PENSTOCK_STALE when this version or a newer one is published already. */
PENSTOCK_API int penstock_worker_publish(penstock_worker* worker, const char* name,
                                         uint64_t version, const DLTensor* tensor,
                                         int64_t timeout_ms);
/* Fills the tensor with the newest version, at least `version` (0: any), and says which in *found.
 * PENSTOCK_MISMATCH when it was published with another dtype or shape. */
PENSTOCK_API int penstock_worker_fetch(penstock_worker* worker, const char* name, uint64_t version,
                                       const DLTensor* tensor, int64_t timeout_ms, uint64_t* found);
/* Frees the server's memory. PENSTOCK_NOT_FOUND when nothing is published under this name. */
PENSTOCK_API int penstock_worker_withdraw(penstock_worker* worker, const char* name,
                                          int64_t timeout_ms);

/* ---- requests: what does not fit declared tensors ------------------------------------------
 *
 * A worker asks a server; a handler there answers, at once or later, from any thread, in any order.
 * A request is a small head and up to PENSTOCK_MAX_ARRAYS arrays of any length; so is its answer.
 * Each is carried exactly once, also when connections are lost and resumed. Requests of one worker
 * to one server on one channel (below 2^31) are handled in the order in which they were made. */
#define PENSTOCK_MAX_ARRAYS 4
#define PENSTOCK_MAX_HEAD 1008 /* bytes */

typedef struct penstock_array {
  const void* data;
  size_t bytes;
} penstock_array;
typedef struct penstock_place {
  void* data;
  size_t bytes;
} penstock_place;

/* Sends a request and returns at once; *number is what to wait for. The arrays are lent until the
 * answer is taken. places[i]: where array i of the answer is to land if it has exactly that length
 * and is large (over 16 KiB); it must live until the answer is taken. */
PENSTOCK_API int penstock_worker_request(penstock_worker* worker, uint32_t server, uint32_t channel,
                                         penstock_array head, const penstock_array* arrays,
                                         size_t count, const penstock_place* places,
                                         size_t place_count, uint64_t* number);
/* The answer, once. PENSTOCK_TIMEOUT: it may be waited for again; timeout_ms as in wait(). The
 * handler's own failure comes with its number and words. */
typedef struct penstock_answer penstock_answer;
PENSTOCK_API int penstock_worker_answer(penstock_worker* worker, uint64_t number,
                                        int64_t timeout_ms, penstock_answer** answer);
PENSTOCK_API penstock_array penstock_answer_head(const penstock_answer* answer);
PENSTOCK_API size_t penstock_answer_count(const penstock_answer* answer);
/* {NULL, 0} past the last. Lives as long as the answer, or is the place that was given. */
PENSTOCK_API penstock_array penstock_answer_get(const penstock_answer* answer, size_t index);
PENSTOCK_API void penstock_answer_destroy(penstock_answer* answer);

/* A request at the server. The handler owns it, runs on a lane's thread and must not wait there: it
 * answers, or keeps the request for another thread to do so. Every request ends in exactly one of
 * the two functions below, before the server is destroyed. */
typedef struct penstock_request penstock_request;
typedef void (*penstock_handler)(penstock_request* request, void* context);
/* Of servers started with these options; `context` is passed on. Without one requests are refused.
 */
PENSTOCK_API int penstock_options_set_handler(penstock_options* options, penstock_handler handler,
                                              void* context);
PENSTOCK_API uint32_t penstock_request_worker(const penstock_request* request);
PENSTOCK_API penstock_array penstock_request_head(const penstock_request* request);
PENSTOCK_API size_t penstock_request_count(const penstock_request* request);
PENSTOCK_API penstock_array penstock_request_get(const penstock_request* request, size_t index);
/* Answers and frees the request; its own arrays may be answered with. The arrays are lent until
 * release(context) is called, on any thread; release NULL: they must outlive the server. */
PENSTOCK_API int penstock_request_answer(penstock_request* request, penstock_array head,
                                         const penstock_array* arrays, size_t count,
                                         void (*release)(void* context), void* context);
/* The same with an error: a penstock_status other than PENSTOCK_OK, and words (NULL: none). */
PENSTOCK_API int penstock_request_fail(penstock_request* request, int status, const char* why);

/* ---- server and scheduler ------------------------------------------------------------------ */

typedef struct penstock_server penstock_server;
/* Returns once it is connecting; its threads do the rest. */
PENSTOCK_API int penstock_server_start(const penstock_options* options, penstock_server** server);
/* PENSTOCK_OK once every worker left, PENSTOCK_TIMEOUT while the job runs, else why it ended. */
PENSTOCK_API int penstock_server_wait(penstock_server* server, int64_t timeout_ms);
PENSTOCK_API void penstock_server_destroy(penstock_server* server);

typedef struct penstock_scheduler penstock_scheduler;
PENSTOCK_API int penstock_scheduler_start(const penstock_options* options,
                                          penstock_scheduler** scheduler);
/* "host:port" it listens on; lives as long as the scheduler. */
PENSTOCK_API const char* penstock_scheduler_address(const penstock_scheduler* scheduler);
PENSTOCK_API int penstock_scheduler_wait(penstock_scheduler* scheduler, int64_t timeout_ms);
PENSTOCK_API void penstock_scheduler_destroy(penstock_scheduler* scheduler);

#ifdef __cplusplus
}
#endif
