#include "options/table.h"

#define FIELD(field) .offset = offsetof(swt_options, field)
#define INT(field, least, most, of)                                                                \
    .type = &swt_option_int, FIELD(field), .value = "N", .min = (least), .max = (most), .unit = (of)
#define REAL(field, from, to, of)                                                                  \
    .type = &swt_option_real, FIELD(field), .value = "X", .low = (from), .high = (to), .unit = (of)
#define CHOICE(field, ...)                                                                         \
    .type = &swt_option_choice, FIELD(field), .choices = (const char *const[]) {                   \
        __VA_ARGS__, NULL                                                                          \
    }
#define WORDS(field, no, yes)                                                                      \
    .type = &swt_option_bool, FIELD(field), .choices = (const char *const[]) {                     \
        no, yes, NULL                                                                              \
    }
#define BOOL(field) WORDS(field, "false", "true")
#define TEXT(field, name)                                                                          \
    .type = &swt_option_text, FIELD(field), .bytes = sizeof(((swt_options *)NULL)->field),         \
    .value = (name)
#define BOTH(text)        .labml = (text), .t5 = (text)
#define PRESETS(one, two) .labml = (one), .t5 = (two)
#define FREE              .resumes = SWT_RESUMES_FREE
#define KEY(name, set, ...)                                                                        \
    { .key = (name), .full_flag = "--" name, .commands = SWT_TAKES_##set, __VA_ARGS__ }
#define ARGUMENT(name, set, ...)                                                                   \
    { .flag = (name), .commands = SWT_TAKES_##set, __VA_ARGS__ }

/* Rows stand section by section, in the order of the pages and files made from them. A default or a
 * range changes here and nowhere else; docs/options.md is printed from this table. The upper bounds
 * keep every size far from the end of int64; what several keys amount to is checked in
 * check.c.                                                                               */
const swt_option swt_option_table[] = {
    KEY("model.preset", ALL, CHOICE(model_preset, "labml", "t5"), PRESETS("labml", "t5"),
        .also = "model-type arch architecture model",
        .help =
            "The family whose defaults every other key starts from. labml: a small decoder with "
            "LayerNorm and biases; t5: the encoder-decoder of the Switch Transformer paper."),
    KEY("model.stacks", ALL, CHOICE(model_stacks, "decoder", "encoder-decoder"),
        PRESETS("decoder", "encoder-decoder"),
        .help = "A decoder alone, or an encoder and a decoder with cross-attention."),
    KEY("model.vocab", ALL, INT(dims.V, 0, 16777216, "tokens"), BOTH("0"),
        .also = "vocab-size n-vocab padded-vocab-size",
        .help = "Size of the vocabulary. 0 takes it from the tokenizer."),
    KEY("model.layers", ALL, .flag = "--layers", INT(dims.L, 1, 65535, "blocks"),
        PRESETS("6", "12"),
        .also = "n-layer n-layers num-layers num-hidden-layers decoder-layers depth",
        .help = "Blocks in the decoder."),
    KEY("model.encoder_layers", ALL, INT(model_encoder_layers, 0, 65535, "blocks"), BOTH("0"),
        .also = "num-encoder-layers", .only_with = "model.stacks encoder-decoder",
        .help = "Blocks in the encoder, where there is one. 0 is the same as model.layers."),
    KEY("model.width", ALL, INT(dims.C, 1, 65536, "features"), PRESETS("128", "768"),
        .also = "n-embd d-model hidden-size embed-dim dim decoder-embed-dim emb-size model-dim",
        .help = "Features of a token between the blocks, C."),
    KEY("model.heads", ALL, INT(dims.H, 1, 4096, "heads"), PRESETS("4", "12"),
        .also = "n-head n-heads num-heads num-attention-heads decoder-attention-heads",
        .help = "Attention heads, H."),
    KEY("model.head_width", ALL, INT(dims.D, 0, SWT_HEAD_WIDTH_MAX, "features"), PRESETS("0", "64"),
        .also = "head-dim d-head d-kv kv-channels head-size",
        .help = "Features of one head, D. 0 is model.width / model.heads, which must divide."),
    KEY("model.hidden", ALL, INT(dims.F, 1, 1048576, "features"), PRESETS("256", "2048"),
        .also = "d-ff ffn-dim intermediate-size ffn-hidden-size decoder-ffn-embed-dim mlp-dim",
        .help = "Hidden features of an expert and of a dense feed-forward layer, F."),
    KEY("model.norm", ALL, CHOICE(dims.norm, "layernorm", "rmsnorm"),
        PRESETS("layernorm", "rmsnorm"), .also = "normalization norm-type",
        .help = "The normalisation before each sub-layer. layernorm: eps 1e-5, with bias; rmsnorm: "
                "eps 1e-6, without."),
    KEY("model.positions", ALL, CHOICE(dims.positions, "none", "relative"),
        PRESETS("none", "relative"), .also = "position-embedding-type pos-emb positional-encoding",
        .help = "How attention learns where a token stands. none: from the causal mask alone; "
                "relative: a bias for each head by distance, 32 buckets up to 128."),
    KEY("model.attn_scale", ALL, CHOICE(model_attn_scale, "sqrt", "one"), PRESETS("sqrt", "one"),
        .help = "Factor of the attention scores. sqrt: 1 / sqrt(head width); one: 1."),
    KEY("model.bias", ALL, BOOL(dims.bias), PRESETS("true", "false"),
        .help = "Whether linear layers have a bias, the router's included."),
    KEY("model.ffn", ALL, CHOICE(dims.ffn, "relu", "gelu", "geglu"), PRESETS("relu", "geglu"),
        .also = "activation activation-function hidden-act activation-fn mlp-type",
        .help =
            "The function inside the feed-forward layers. geglu: gelu(wi x) times a gate (wg x)."),
    KEY("model.tied", ALL, BOOL(dims.tied), PRESETS("false", "true"),
        .also = "tie-word-embeddings share-embeddings tie-weights weight-tying",
        .help = "Whether the head uses the embedding's matrix, scaled by width^-0.5."),
    KEY("model.dropout", ALL, REAL(dims.dropout, 0, 1, NULL), .below_high = true, BOTH("0"),
        .also = "dropout hidden-dropout attention-dropout dropout-rate resid-dropout embd-pdrop",
        .help = "Share of values zeroed in training, the others scaled up: a stack's input, "
                "attention weights, dense hidden values, what each sub-layer adds, the output of "
                "the final norm."),
    KEY("model.pad_id", ALL, INT(dims.pad_id, -1, 16777215, NULL), PRESETS("-1", "0"),
        .also = "pad-token-id padding-idx",
        .help = "The token that is padding, in a batch of probe; a text has none. -1: there is "
                "none."),
    KEY("model.init", ALL, CHOICE(model_init, "labml", "pytorch", "switch"),
        PRESETS("labml", "switch"),
        .help = "How parameters are drawn. pytorch: by PyTorch's defaults, each tensor by itself; "
                "labml: the same, but experts and layers start as copies of the first; switch: "
                "truncated normal, std sqrt(init_scale / fan-in)."),
    KEY("model.init_scale", ALL, REAL(model_init_scale, 0, 1e6, NULL), .above_low = true,
        BOTH("0.1"), .also = "initializer-range init-method-std initializer-factor",
        .only_with = "model.init switch",
        .help =
            "Scale of model.init switch. The paper found 0.1 stable where the usual 1.0 is not."),
    KEY("moe.experts", ALL, .flag = "--experts", INT(dims.E, 1, 65536, "experts"),
        PRESETS("4", "8"),
        .also = "num-experts n-experts num-local-experts moe-num-experts expert-count",
        .nearly = "top-k topk moe-top-k num-experts-per-tok moe-router-topk",
        .difference = "each token goes to one expert, always",
        .help = "Experts in each sparse layer, E. More experts add parameters; the work for a "
                "token stays the same."),
    KEY("moe.every", ALL, INT(dims.every, 0, 65535, "blocks"), PRESETS("1", "2"),
        .also = "moe-freq moe-layer-freq expert-interval sparse-step",
        .help = "Every how many blocks one is sparse. 1: all; 2: every second, the first block "
                "being dense; 0: none."),
    KEY("moe.capacity_factor", ALL, REAL(dims.capacity_factor, 0, 1e6, NULL),
        PRESETS("1.2", "1.25"),
        .also = "capacity moe-capacity-factor expert-capacity-factor moe-expert-capacity-factor",
        .only_with = "moe.capacity 0",
        .help = "Room of an expert, as a multiple of its even share of the tokens. Slots K = "
                "max(min(round(factor x tokens / E), tokens), min_capacity); tokens beyond K are "
                "dropped."),
    KEY("moe.eval_capacity_factor", ALL, REAL(dims.eval_capacity_factor, 0, 1e6, NULL),
        PRESETS("0", "2.0"),
        .help = "The capacity factor in evaluation. 0: the same as in training."),
    KEY("moe.capacity", ALL, INT(dims.capacity, 0, INT32_MAX, "slots"), BOTH("0"),
        .also = "expert-capacity",
        .help = "A fixed number of slots for each expert and group. 0: by the capacity factor."),
    KEY("moe.min_capacity", ALL, INT(dims.min_capacity, 0, INT32_MAX, "slots"), PRESETS("0", "4"),
        .only_with = "moe.capacity 0", .help = "Slots that the capacity factor never goes below."),
    KEY("moe.capacity_round", ALL, CHOICE(dims.capacity_round, "floor", "ceil", "round"),
        BOTH("floor"),
        .help =
            "How factor x tokens / E becomes whole slots. round: to the nearest, halves to even."),
    KEY("moe.group", ALL, CHOICE(dims.group, "micro_batch", "sequence"), BOTH("micro_batch"),
        .help =
            "The tokens that share an expert's slots: a micro-batch, or each sequence by itself."),
    KEY("moe.drop", ALL, CHOICE(dims.drop, "position", "priority", "random"),
        PRESETS("random", "position"),
        .also = "drop-policy token-drop-policy moe-token-drop-policy",
        .help = "Which tokens an overfull expert drops. position: the last ones; priority: those "
                "with the lowest gates; random: any, from the seed."),
    KEY("moe.dropped_output", ALL, CHOICE(dims.dropped_output, "zero", "gated_input"),
        PRESETS("gated_input", "zero"),
        .help = "What a sparse layer adds for a dropped token. zero: nothing, the residual alone "
                "goes on; gated_input: its input, scaled as moe.gate says."),
    KEY("moe.gate", ALL, CHOICE(dims.gate, "scale", "unit"), BOTH("scale"),
        .help = "What scales an expert's output y. scale: the router's probability g; unit: g / "
                "stop_gradient(g), which is 1 and passes the router its gradient."),
    KEY("moe.jitter", ALL, REAL(dims.jitter, 0, 1, NULL), PRESETS("0", "0.01"),
        .also = "jitter-noise router-jitter-noise jitter-eps moe-input-jitter-eps",
        .help = "Noise on the router's input in training: a factor drawn from [1 - j, 1 + j]. The "
                "experts never see it."),
    KEY("moe.route_padding", ALL, BOOL(dims.route_padding), PRESETS("true", "false"),
        .help = "Whether padding goes to experts. false: it takes no slot and does not count in "
                "the auxiliary losses."),
    KEY("moe.aux_coef", ALL, REAL(dims.aux_coef, 0, 1e6, NULL), BOTH("0.01"),
        .also = "aux-loss-coef router-aux-loss-coef moe-aux-loss-coeff load-balance-weight",
        .help = "Weight of the load-balancing loss. Too small: experts starve; too large: it "
                "drowns the cross-entropy."),
    KEY("moe.aux_layers", ALL, CHOICE(dims.aux_layers, "sum", "mean"), PRESETS("sum", "mean"),
        .help = "How the sparse layers' auxiliary losses are joined."),
    KEY("moe.z_coef", ALL, REAL(dims.z_coef, 0, 1e6, NULL), BOTH("0"),
        .also = "router-z-loss-coef moe-z-loss-coeff z-loss z-loss-weight",
        .help = "Weight of the router's z-loss, the mean of logsumexp(logits)^2. It keeps router "
                "logits small."),
    KEY("moe.expert_dropout", ALL, REAL(dims.expert_dropout, 0, 1, NULL), .below_high = true,
        BOTH("0"), .also = "expert-dropout-rate moe-dropout expert-dropout",
        .help = "Share of an expert's hidden values zeroed in training; model.dropout leaves them "
                "alone. The paper takes 0.4 in fine-tuning, beside 0.1 of model.dropout."),
    KEY("batch.sequences", ALL, INT(dims.B, 1, 65536, "sequences"), PRESETS("32", "8"),
        .also = "batch micro-batch-size per-device-train-batch-size max-sentences",
        .nearly = "batch-size global-batch-size",
        .difference = "sequences of one micro-batch; a step has batch.micro_batches of them",
        .help = "Sequences in one micro-batch, B."),
    KEY("batch.seq_len", ALL, INT(dims.T, 1, 1048576, "tokens"), PRESETS("64", "512"),
        .also =
            "block-size context-length ctx-len seq-length max-seq-len max-length context-size "
            "n-ctx n-positions max-position-embeddings tokens-per-sample sequence-length window",
        .help = "Tokens in a sequence, T; the encoder's where there is one."),
    KEY("batch.target_len", ALL, INT(batch_target_len, 0, 1048576, "tokens"), PRESETS("0", "114"),
        .only_with = "model.stacks encoder-decoder",
        .help = "Tokens in a sequence of the decoder, where there is an encoder. 0: the same as "
                "batch.seq_len."),
    KEY("batch.micro_batches", ALL, INT(dims.M, 1, 65536, "micro-batches"), PRESETS("1", "4"),
        .also = "gradient-accumulation-steps grad-accum accumulation-steps grad-acc-steps "
                "update-freq num-micro-batches",
        .help =
            "Micro-batches in a step, M. They are shared out over the ranks, so M of at least the "
            "number of ranks keeps every rank busy; the result does not depend on the ranks."),
    KEY("optim.name", TRAINING, CHOICE(optim_name, "adam", "sgd", "adafactor"),
        PRESETS("adam", "adafactor"), .also = "optimizer optimiser optim opt",
        .help = "The update rule. adam has decoupled weight decay (AdamW); adafactor has no first "
                "moment, and of a matrix it keeps a number for each row and column alone."),
    KEY("optim.lr", TRAINING, REAL(schedule.lr, 0, 1e6, NULL), BOTH("1.0"),
        .also = "lr learning-rate max-lr base-lr peak-lr",
        .help = "Learning rate, before the schedule scales it. Under noam and rsqrt it is a factor "
                "near 1; under constant and cosine it is the rate itself, such as 0.001."),
    KEY("optim.schedule", TRAINING, CHOICE(schedule.kind, "noam", "rsqrt", "constant", "cosine"),
        PRESETS("noam", "rsqrt"),
        .also =
            "lr-scheduler lr-scheduler-type scheduler lr-schedule lr-decay-style decay-lr lr-decay",
        .help = "The rate at step t. noam: lr width^-0.5 min(t^-0.5, t warmup^-1.5); rsqrt: lr "
                "max(t, warmup)^-0.5; constant: lr; cosine: linear up to warmup, then half a "
                "cosine to optim.min_lr at train.steps."),
    KEY("optim.min_lr", TRAINING, REAL(schedule.min_lr, 0, 1e6, NULL), BOTH("0"),
        .also = "min-lr lr-min eta-min minimum-lr", .only_with = "optim.schedule cosine",
        .help = "Under cosine the rate of the last step, at most optim.lr."),
    KEY("optim.warmup_steps", TRAINING, REAL(schedule.warmup_steps, 0, 1e9, "steps"),
        PRESETS("2000", "10000"),
        .also =
            "warmup warmup-iters warmup-updates num-warmup-steps lr-warmup-iters lr-warmup-steps",
        .nearly = "warmup-ratio lr-warmup-fraction warmup-epochs", .difference = "in steps",
        .only_with = "optim.schedule noam rsqrt cosine",
        .help = "Where the schedule turns from rising to falling."),
    KEY("optim.beta1", TRAINING, REAL(adam.beta1, 0, 1, NULL), .below_high = true, BOTH("0.9"),
        .also = "adam-beta1", .only_with = "optim.name adam",
        .help = "Adam: decay of the mean of gradients."),
    KEY("optim.beta2", TRAINING, REAL(adam.beta2, 0, 1, NULL), .below_high = true, BOTH("0.999"),
        .also = "adam-beta2", .only_with = "optim.name adam",
        .help = "Adam: decay of the mean of squared gradients."),
    KEY("optim.eps", TRAINING, REAL(adam.eps, 0, 1, NULL), BOTH("1e-8"),
        .also = "adam-epsilon adam-eps epsilon", .only_with = "optim.name adam",
        .help = "Adam: added to the root, against division by 0."),
    KEY("optim.eps_uncorrected", TRAINING, BOOL(adam.eps_uncorrected), PRESETS("true", "false"),
        .only_with = "optim.name adam",
        .help = "Adam: whether eps joins sqrt(v) before the bias correction of v, as labml does."),
    KEY("optim.weight_decay", TRAINING, REAL(adam.weight_decay, 0, 1e6, NULL), BOTH("0"),
        .also = "wd decay l2", .only_with = "optim.name adam",
        .help = "Decoupled weight decay, per step and times the learning rate."),
    KEY("optim.clip_norm", TRAINING, REAL(optim_clip_norm, 0, 1e6, NULL), PRESETS("1.0", "0"),
        .also = "grad-clip clip-grad max-grad-norm clip gradient-clipping clip-grad-norm "
                "gradient-clip-val",
        .help = "Longest gradient over all parameters; longer ones are scaled down to it. 0: no "
                "clipping."),
    KEY("optim.scale_parameter", TRAINING, BOOL(optim_scale_parameter), BOTH("true"),
        .only_with = "optim.name adafactor",
        .help = "Adafactor: scale a step by max(1e-3, RMS of the parameter)."),
    KEY("optim.clip_update", TRAINING, REAL(optim_clip_update, 0, 1e6, NULL), .above_low = true,
        BOTH("1.0"), .only_with = "optim.name adafactor",
        .help = "Adafactor: largest RMS of one update."),
    KEY("optim.z_loss", TRAINING, REAL(dims.output_z_coef, 0, 1e6, NULL), BOTH("0"),
        .also = "output-z-loss logits-z-loss lm-head-z-loss",
        .help = "Weight of the output z-loss, the mean over targets of logsumexp(logits)^2. It "
                "keeps the logits near their softmax's logarithms; the paper-sized models take "
                "0.0001."),
    KEY("train.seed", EVERY, .flag = "--seed", INT(train_seed, 0, INT64_MAX, NULL), BOTH("1"),
        .also = "random-seed rng-seed data-seed manual-seed",
        .help = "Seed of everything random. The same seed gives the same run, bit for bit, on any "
                "number of ranks and threads."),
    KEY("train.steps", TRAINING, .resumes = SWT_RESUMES_LONGER, .flag = "--steps",
        INT(train_steps, 0, 99999999, "steps"), BOTH("2000"),
        .also = "max-steps max-iters iters iterations train-iters n-steps num-steps max-update "
                "total-steps num-train-steps",
        .nearly = "epochs epoch num-epochs max-epochs max-epoch num-train-epochs n-epochs",
        .difference = "updates, not passes over the text",
        .help = "Optimiser updates in all, also after a resume. 0: only evaluate and write."),
    KEY("train.log_every", TRAINING, FREE, INT(train_log_every, 1, 99999999, "steps"), BOTH("10"),
        .also = "log-interval logging-steps print-every log-freq log-steps",
        .help = "Steps from one training row of metrics.jsonl to the next. In a pipe, also from "
                "line to line."),
    KEY("train.eval_every", TRAINING, FREE, INT(train_eval_every, 0, 99999999, "steps"),
        BOTH("500"),
        .also = "eval-interval eval-steps validate-interval valid-every eval-freq val-interval",
        .help = "Steps from one evaluation to the next. 0: only at the last step."),
    KEY("train.eval_windows", ALL, FREE, INT(train_eval_windows, 0, INT64_C(1) << 40, "windows"),
        BOTH("0"),
        .also = "eval-iters eval-batches max-eval-samples limit-val-batches eval-windows",
        .help =
            "Windows of the validation part that an evaluation reads, from its first on. 0: all "
            "of them."),
    KEY("train.sample_every", TRAINING, FREE, INT(train_sample_every, 0, 99999999, "steps"),
        BOTH("0"), .also = "sample-interval generate-every",
        .help = "Steps from one printed sample to the next. 0: never."),
    KEY("train.checkpoint_every", TRAINING, FREE, INT(train_checkpoint_every, 0, 99999999, "steps"),
        BOTH("0"),
        .also = "save-every save-steps save-interval checkpoint-interval ckpt-every save-freq",
        .help = "Steps from one checkpoint to the next. 0: only at the last step."),
    KEY("train.keep_checkpoints", TRAINING, FREE,
        INT(train_keep_checkpoints, 0, 99999999, "checkpoints"), BOTH("2"),
        .also = "save-total-limit keep-last-epochs max-checkpoints keep-last",
        .help = "How many of the newest checkpoints are kept. 0: all."),
    KEY("train.keep_best", TRAINING, FREE, BOOL(train_keep_best), BOTH("false"),
        .also = "save-best save-best-model load-best-model-at-end best",
        .help = "Whether the checkpoint with the lowest valid_loss is kept, too, of those whose "
                "step was evaluated. best in the run's directory leads to it: --checkpoint "
                "RUN/best."),
    KEY("train.async_checkpoints", TRAINING, FREE, BOOL(train_async_checkpoints), BOTH("true"),
        .also = "async-save async-checkpoint",
        .help = "Whether checkpoints are written by a thread of each rank while training goes on. "
                "false: training waits. Either way they are copied to the host first."),
    KEY("train.check_every", TRAINING, FREE, INT(train_check_every, 0, 99999999, "steps"),
        BOTH("100"),
        .help = "Steps between comparisons of the parameters that several ranks hold: where one "
                "differs, the run ends (exit code 5). 0: only where the ledger has a line."),
    KEY("train.ledger_every", TRAINING, FREE, INT(train_ledger_every, 0, 99999999, "steps"),
        BOTH("0"),
        .help = "Steps from one line of ledger.jsonl to the next; by its hashes audit compares. 0: "
                "with every training row."),
    KEY("data.path", ALL, FREE, .flag = "--data", TEXT(data_path, "FILE"), BOTH(""), .own = true,
        .also = "dataset data-path train-file input data-dir train-data text corpus",
        .help = "Text to train on; else $SWT_DATA, else the newest data/*.txt. launch/dataset "
                "fetches one."),
    KEY("data.tokenizer", ALL, CHOICE(data_tokenizer, "char", "byte"), BOTH("char"),
        .also = "tokenizer-type tokeniser tokenizer-name",
        .help = "What a token is. char: a character of the text; byte: one of 256 bytes."),
    KEY("data.unknown", ALL, CHOICE(data_unknown, "refuse", "skip"), BOTH("refuse"),
        .help = "What is done with a text that has characters outside the vocabulary. refuse: it "
                "is an error that names them; skip: they are left out, counted and named. A "
                "prompt's are left out with a warning."),
    KEY("data.valid", ALL, FREE, TEXT(data_valid, "FILE"), BOTH(""), .own = true,
        .help = "Text to validate on, all of it. Then the whole of data.path trains, and eval "
                "reads this text alone. Empty: the end of data.path validates."),
    KEY("data.valid_fraction", ALL, REAL(data_valid_fraction, 0, 1, NULL), .above_low = true,
        BOTH("0.1"), .also = "val-split valid-split validation-split test-size split val-fraction",
        .help = "Share of data.path, at its end, that validates. 1, in eval alone: all of it."),
    KEY("data.prompt", ALL, FREE, TEXT(data_prompt, "TEXT"), BOTH("It is"),
        .help = "What samples during training continue."),
    KEY("dist.expert_ranks", ALL, FREE, INT(dist_expert_ranks, 0, 65536, "ranks"), BOTH("0"),
        .also = "expert-parallel-size ep-size expert-model-parallel-size ep moe-ep-size",
        .help = "Ranks that share one set of experts; it must divide the number of ranks. 0: the "
                "largest divisor of that number that is at most moe.experts."),
    KEY("run.out", WRITING, FREE, .flag = "--out", TEXT(run_out, "PATH"), BOTH(""), .own = true,
        .required = SWT_TAKES_PROBE | SWT_TAKES_REPLAY | SWT_TAKES_IMPORT,
        .also = "output-dir out-dir save-dir save output log-dir logdir run-dir results-dir",
        .help = "The run directory, runs/DATE-TIME-PID if not given; for probe and replay the "
                "output file, for checkpoint import the new checkpoint. A "
                "directory that already holds a run is refused."),
    KEY("run.device", EVERY, FREE, .flag = "--device", CHOICE(run_device, "auto", "cpu", "cuda"),
        BOTH("auto"), .also = "gpu gpus cuda use-cuda no-cuda use-cpu cpu accelerator backend",
        .help = "Where the arithmetic runs; auto takes GPUs if it can. That is, if the program "
                "was built with a GPU backend and every rank can have a GPU of its own; else all "
                "ranks take the CPU."),
    KEY("run.threads", EVERY, FREE, .flag = "--threads", INT(run_threads, 0, 1024, "threads"),
        BOTH("0"), .own = true, .also = "num-threads nthreads omp-num-threads cpus",
        .nearly = "num-workers workers",
        .difference = "threads of arithmetic; ranks are started by launch/run -n",
        .help = "Threads of each rank; 0 shares out the cores. That is the cores allowed, by "
                "affinity and by the control group's quota, divided by the ranks that share them, "
                "at most OMP_NUM_THREADS, at least 1."),
    KEY("run.dtype", ALL, CHOICE(dims.dtype, "fp32", "bf16"), BOTH("fp32"),
        .also = "precision bf16 fp16 half mixed-precision amp torch-dtype params-dtype",
        .help = "Type of weights and activations in the products. bf16 keeps fp32 master weights; "
                "GPUs only."),
    KEY("run.resume", TRAINING, FREE, CHOICE(run_resume, "off", "auto"), BOTH("off"),
        .help = "auto: go on from the newest checkpoint of run.out that verifies, with the same "
                "bits on any ranks; where there is none, start."),
    KEY("run.init_from", TRAINING, FREE, .flag = "--init-from", TEXT(run_init_from, "DIR"),
        BOTH(""),
        .also = "load load-dir pretrained model-name-or-path init restore-file finetune-from",
        .nearly =
            "checkpoint resume resume-from resume-from-checkpoint ckpt ckpt-path continue-from",
        .difference = "starts from its weights alone, at step 0",
        .help = "Run or checkpoint whose weights training starts from. Empty: new weights, by "
                "model.init."),
    KEY("run.deterministic", ALL, WORDS(run_deterministic, "off", "on"), BOTH("on"), .built = "on",
        .also = "cudnn-deterministic use-deterministic-algorithms",
        .help = "on: the same bits for any number of ranks and threads."),
    KEY("run.nonfinite", TRAINING, .resumes = SWT_RESUMES_GIVEN,
        CHOICE(run_nonfinite, "stop", "skip"), BOTH("stop"),
        .help = "What a step does whose gradient is not finite or too large. stop: the run ends "
                "(exit code 5); skip: no update, which the log tells and the column skipped "
                "counts, up to 10 in a row."),
    KEY("run.max_seconds", TRAINING, FREE, INT(run_max_seconds, 0, 99999999, "seconds"), BOTH("0"),
        .also = "max-time max-train-time time-limit walltime",
        .help = "A run ends before so long, with a checkpoint and exit code 0, to go on by "
                "run.resume auto. 0: no limit."),
    KEY("run.hang_seconds", ALL, FREE, INT(run_hang_seconds, 0, 86400, "seconds"), BOTH("5"),
        .help = "A rank that is not heard of for so long is lost, which ends the run (exit code "
                "6). 0: nobody watches, nor for run.stall_seconds."),
    KEY("run.stall_seconds", ALL, FREE, INT(run_stall_seconds, 0, 86400, "seconds"), BOTH("300"),
        .help = "A rank that is heard of but makes no progress in a step for so long is lost, too; "
                "after a tenth of it a warning tells. 0: any time is allowed."),
    ARGUMENT("--config", TRAINING, TEXT(config_path, "FILE.yaml"), BOTH(""), .own = true,
             .also = "config-file cfg yaml conf",
             .help = "YAML file with any of the keys; flags win over it."),
    ARGUMENT("--checkpoint", RESTORE, TEXT(checkpoint_path, "DIR"), BOTH(""), .own = true,
             .required = SWT_TAKES_RESTORE,
             .also = "ckpt model-path load checkpoint-path model-dir model-name-or-path "
                     "checkpoint-dir path weights run init-from out out-dir load-dir",
             .help = "A checkpoint, or a run, which means its newest one. Its config.yaml is the "
                     "configuration; flags win over it."),
    ARGUMENT("--folder", FOLDER, TEXT(folder_path, "DIR"), BOTH(""), .own = true, .operand = 1,
             .required = SWT_TAKES_FOLDER, .also = "run dir",
             .help = "A run or a checkpoint, also without the flag: checkpoint verify DIR."),
    ARGUMENT("--other", TWO, TEXT(other_path, "DIR"), BOTH(""), .own = true, .operand = 2,
             .required = SWT_TAKES_TWO,
             .help = "What it is compared with, also without the flag: checkpoint diff A B."),
    ARGUMENT("--tolerance", DIFF, REAL(tolerance, 0, 1e30, NULL), BOTH("0"), .also = "tol atol",
             .help = "The largest difference of two numbers that are taken for equal."),
    ARGUMENT("--hf", HF, TEXT(hf_path, "DIR"), BOTH(""), .own = true, .required = SWT_TAKES_HF,
             .also = "pretrained model-name-or-path huggingface transformers",
             .help = "A folder as Hugging Face's switch_transformers has it: config.json and "
                     "model.safetensors, or its shards and their index. import reads it; export "
                     "makes it."),
    ARGUMENT("--shard-bytes", EXPORT, INT(shard_bytes, 1, INT64_C(1) << 50, "bytes"),
             BOTH("5000000000"), .also = "max-shard-size shard-size",
             .help = "Most bytes of tensors in one file; what is more goes into several, with an "
                     "index."),
    ARGUMENT("--from", AUDIT, INT(audit_from, 0, 99999999, "steps"), BOTH("0"), .also = "start",
             .help = "First step that is done again."),
    ARGUMENT("--to", AUDIT, INT(audit_to, 0, 99999999, "steps"), BOTH("0"), .also = "end",
             .help = "Last step that is done again. 0: the ledger's last."),
    ARGUMENT("--samples", AUDIT, INT(audit_samples, 0, 1000000, "lines"), BOTH("0"), .also = "n",
             .help = "Lines of the ledger, drawn at random, that are done again. 0: all."),
    ARGUMENT("--step", REPLAY, INT(replay_step, 1, 99999999, "steps"), BOTH("1"),
             .required = SWT_TAKES_REPLAY,
             .help = "The step whose tensors are written: 1 is the first."),
    ARGUMENT("--prompt", GENERATE, TEXT(prompt, "TEXT"), BOTH(""),
             .also = "start text input prefix context",
             .help = "The text to continue; data.prompt where the flag is not given."),
    ARGUMENT("--tokens", GENERATE, INT(tokens, 1, 1000000000, "tokens"), BOTH("100"),
             .also = "max-new-tokens num-tokens length max-tokens n-tokens gen-len out-seq-length "
                     "max-length",
             .help = "Tokens to write."),
    ARGUMENT("--temperature", GENERATE, REAL(temperature, 0, 100, NULL), BOTH("0"),
             .also = "temp t",
             .help = "Divides the logits before a token is drawn; 0 always takes the likeliest."),
    ARGUMENT("--top-k", GENERATE, INT(top_k, 0, 16777216, "tokens"), BOTH("0"), .also = "topk k",
             .only_with = "--temperature !0",
             .help = "Draws from the k likeliest tokens only; 0 is all."),
    ARGUMENT("--ranks", PLAN, INT(plan_ranks, 1, 65536, "ranks"), BOTH("1"),
             .also = "n np world-size nproc nproc-per-node num-gpus n-gpus ngpus gpus nodes",
             .help = "Number of ranks to plan for."),
    ARGUMENT("--weights", PROBE, TEXT(weights_path, "FILE"), BOTH(""), .own = true,
             .required = SWT_TAKES_PROBE, .help = "Safetensors file with every parameter."),
    ARGUMENT(
        "--batch", PROBE, TEXT(batch_path, "FILE"), BOTH(""), .own = true,
        .required = SWT_TAKES_PROBE,
        .help =
            "Safetensors file with tokens and targets, I32 [M, B, T]; its shape sets M, B and T."),
    ARGUMENT("--optim-steps", PROBE, INT(optim_steps, 0, 1000000, "steps"), BOTH("0"),
             .help = "Also takes so many optimiser steps on the batch and writes the parameters."),
};
const int swt_option_count = (int)(sizeof swt_option_table / sizeof swt_option_table[0]);
_Static_assert(sizeof swt_option_table / sizeof swt_option_table[0] <= SWT_OPTION_LIMIT,
               "arrays beside the table are too short");
