# make            builds bin/darkroom and bin/darkroom-queue (needs Go and a C compiler)
# make install    puts both into the folder of go install
# make test       everything that CI runs; fetches what it needs from package registries
# make check      the quick part of it: no CUDA compiler, no cross builds
# make race       the concurrent packages under the race detector
# make fuzz       every fuzz test, 30 s each (FUZZTIME=2m for longer)
# make storm      kills, damaged files, many programs at once: about 20 minutes
# make lint       golangci-lint and govulncheck, where they can be had
# make first-run  what the first command costs with empty caches
# make release    archives for Linux, Windows and macOS, a Debian package, checksums: build/release
# make bench-compare REV=main    Go benchmarks of this tree against another revision's
# make cuda       bin/darkroom with the CUDA backend; fetches the CUDA compiler, needs no GPU
# make emu        build/emu/libcuda.so.1, an emulated GPU to run it on
# make cuda-arm64 the same for linux/arm64, run under qemu
# make cpu-arm64  the CPU kernels for linux/arm64, tested under qemu; slow
# make bench      kernels and the default model, timed
# make bench-gpu, cuda-report    for a machine with a GPU: side by side with PyTorch; the compiler's numbers
# make batch-speed    a batch against generate --count and single runs: for a quiet machine, some minutes
# make schedulers-measured       docs/schedulers-measured.md again
# make caching-measured          docs/caching-measured.md again: caches and guidance in part of the steps
# make train-setup, train-smoke    the Python that trains the default model; a tiny run of it
# make eval-model  the default model's pictures measured: the table of docs/model.md, the sheets of samples/model

GO ?= go
LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VULN = golang.org/x/vuln/cmd/govulncheck@v1.9.0
PYTHON ?= train/work/venv/bin/python
TRAIN_WORK = $(or $(DARKROOM_TRAIN_WORK),train/work)
CUDA_HEADERS = $(CURDIR)/build/cuda/cuda12/nvidia/cuda_runtime/include

.PHONY: release build install test check cross race fuzz storm first-run bench-compare lint cuda emu cuda-test cuda-arm64 cpu-arm64 cuda-report bench-gpu bench batch-speed schedulers-measured caching-measured train-setup train-smoke eval-model clean

build:
	$(GO) build -o bin/ ./cmd/darkroom ./cmd/darkroom-queue

install:
	$(GO) install ./cmd/...

test: check race cross cuda-test

check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "these files are not formatted: run gofmt -w"; exit 1; }
	$(GO) vet ./...
	$(GO) test ./...

# The program must build where there is no C compiler, and run there on the reference backend. That computes some whole
# pictures: all that the other tests draw would take it eight minutes.
cross:
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/darkroom
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/darkroom
	CGO_ENABLED=0 $(GO) test -short ./kernels/...
	CGO_ENABLED=0 $(GO) test -short -run 'TestDiffusers/-ref$$|TestUnknownWordsAreLeftOut' ./pipeline

# Short: the detector makes arithmetic ten times slower, and what it looks for is in the rest.
# Of the CPU kernels, what threads share: each instruction set's arithmetic is C, which it does not see.
RACE = ./render ./pipeline ./batch ./batch/engine ./batch/queue ./stage ./server ./server/dispatch
race:
	$(GO) test -race -short $(RACE)
	$(GO) test -race -short -run 'Unload|Close|Merge|Winograd' ./kernels/cpu

FUZZTIME ?= 30s
fuzz:
	.ci/fuzz $(FUZZTIME)

# N times as long as in make test.
STORM ?= 100
storm:
	DARKROOM_STORM=$(STORM) $(GO) test -timeout 60m -count=1 -v -run 'Storm' ./cmd/darkroom
	CRASH_FULL=1 $(GO) test -count=1 -timeout 60m ./batch/crash
	$(GO) test -count=5 ./render ./batch/queue
	DARKROOM_STORM=1 $(GO) test -timeout 60m -count=1 -v -run 'Storm|Hostile|Load' ./server

lint:
	.ci/lint $(LINT) $(VULN)

first-run:
	.ci/first-run

release:
	.ci/release

REV ?= main
bench-compare:
	.ci/bench-compare $(REV)

cuda:
	kernels/cuda/build.sh
	CGO_CFLAGS="-O2 -g -I$(CUDA_HEADERS)" $(GO) build -tags cuda -o bin/darkroom ./cmd/darkroom

emu:
	kernels/cuda/emu/build.sh

# The kernels on the emulated device, in two thread orders, with planted mistakes, whole pictures, the
# race checker, and the compiled code on an interpreter. Without the compiler it says so and skips.
cuda-test:
	kernels/cuda/test.sh

# The program for linux/arm64 (Grace, Jetson), under qemu on the emulated device; skips where the cross compiler is missing.
cuda-arm64:
	kernels/cuda/arm64.sh

# The CPU kernels for linux/arm64, under qemu; skips where the cross compiler is missing.
cpu-arm64:
	kernels/cpu/arm64.sh

cuda-report:
	kernels/cuda/report.sh

# On a machine with a GPU.
bench-gpu:
	kernels/cuda/bench.sh

bench: build
	bin/darkroom bench

batch-speed:
	DARKROOM_SPEED=1 $(GO) test ./cmd/darkroom -run TestBatchSpeed -count 1 -v -timeout 1h

# The table of docs/schedulers-measured.md, with the embedded model: for a quiet machine, where it takes some three minutes on two
# processors. MEASURED_STEPS=2 MEASURED_SEEDS=1 and the like try it out.
MEASURED = ddim,ddpm,euler,euler-a,heun,plms,lms,ipndm,dpm++2s,dpm++2m,dpm++2m-karras,dpm++3m,dpm++2m-sde,dpm++sde,deis,unipc,sa-solver,er-sde,gradient-estimation
MEASURED_STEPS = 4,8,16
MEASURED_SEEDS = 1
MEASURED_PROMPTS = samples/compare-prompts.txt
MEASURED_OUT = docs/schedulers-measured.md
schedulers-measured: build
	rm -rf build/schedulers
	bin/darkroom compare --schedulers $(MEASURED) --steps $(MEASURED_STEPS) --prompts $(MEASURED_PROMPTS) --seeds $(MEASURED_SEEDS) --rank-by ssim -o build/schedulers
	sed 's|docs/compare.md says|[compare.md](compare.md) says|' build/schedulers/results.md > $(MEASURED_OUT)

# The table of docs/caching-measured.md: what leaving work out costs and brings. Also on a machine that does other work: the seconds of
# the processor tell.
CACHES = none,deepcache:every=2,deepcache:every=3,firstblock,tgate:gate=5,tgate:gate=10
CACHES_GUIDANCE = cfg,cfg:stop=0.5
CACHES_SCHEDULERS = ddim,dpm++2m-karras
CACHES_STEPS = 12,20
CACHES_PROMPTS = samples/compare-prompts.txt
CACHES_OUT = docs/caching-measured.md
caching-measured: build
	rm -rf build/caching
	bin/darkroom compare --schedulers $(CACHES_SCHEDULERS) --steps $(CACHES_STEPS) --cache "$(CACHES)" --guidance $(CACHES_GUIDANCE) --prompts $(CACHES_PROMPTS) --rank-by ssim -o build/caching
	sed 's|^# Schedulers, measured|# Work left out, measured|; s|docs/compare.md says|[compare.md](compare.md) says|' build/caching/results.md > $(CACHES_OUT)

train-setup:
	python3 -m venv train/work/venv
	train/work/venv/bin/pip install -r train/requirements.txt
	npm install --no-package-lock --prefix train

train-smoke:
	OMP_NUM_THREADS=1 $(PYTHON) -m train.smoke

# Draws 1,000 pictures with the program, each setting's in a folder of build/eval; needs train-setup.
eval-model: build
	test -e $(TRAIN_WORK)/sprites.json || $(PYTHON) -m train.sprites
	$(PYTHON) -m train.data scenes --pools 0
	$(PYTHON) -m train.evaluate prompts build/eval
	for s in ddim-25 ddim-4 dpmpp2m-12; do bin/darkroom batch build/eval/$$s.jsonl -o build/eval/$$s --name "{index:04}" || exit 1; done
	$(PYTHON) -m train.evaluate score build/eval

clean:
	rm -rf bin build
