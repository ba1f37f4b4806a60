// Coefficients for vec.h, lowest power first. Written by polynomials.py.

// 2^r for |r| <= 1/2, relative; for the softmax: error 7.5e-08 before rounding.
#define EXP2_0 1.00000012f
#define EXP2_1 0.693146944f
#define EXP2_2 0.240221202f
#define EXP2_3 0.0555071346f
#define EXP2_4 0.00967554096f
#define EXP2_5 0.00132764666f

// 2^r for |r| <= 1/2, relative; for activations: error 1.9e-09 before rounding.
#define EXP_0 1.00000000f
#define EXP_1 0.693147182f
#define EXP_2 0.240226462f
#define EXP_3 0.0555032864f
#define EXP_4 0.00961848907f
#define EXP_5 0.00133999309f
#define EXP_6 0.000153458081f

// erf(t) = t P(t^2) / Q(t^2) for t <= 3.8, absolute; P: error 4.3e-09 before rounding.
#define ERF_P_0 1.12837911f
#define ERF_P_1 0.184676111f
#define ERF_P_2 0.0521390513f
#define ERF_P_3 0.00355801475f
#define ERF_P_4 0.000287075702f
#define ERF_P_5 2.18740047e-06f

// and Q: error 4.3e-09 before rounding.
#define ERF_Q_0 1.00000000f
#define ERF_Q_1 0.496997774f
#define ERF_Q_2 0.111875020f
#define ERF_Q_3 0.0145508135f
#define ERF_Q_4 0.00112474349f
#define ERF_Q_5 3.96194955e-05f

// 2^r for 0 <= r < 1, relative, 1 at 0; for the softmax in bfloat16: error 8.6e-05 before rounding.
#define EXP2_HALF_0 1.00000000f
#define EXP2_HALF_1 0.695116818f
#define EXP2_HALF_2 0.227644950f
#define EXP2_HALF_3 0.0770670623f

// log2 of the normal distribution at -t for t <= 5.5, absolute; for GELU in bfloat16: error 3.6e-04 before rounding.
#define LOG2_PHI_0 -1.00035906f
#define LOG2_PHI_1 -1.14626062f
#define LOG2_PHI_2 -0.469681323f
#define LOG2_PHI_3 -0.0445988923f
#define LOG2_PHI_4 0.00486974884f
#define LOG2_PHI_5 -0.000233249477f
