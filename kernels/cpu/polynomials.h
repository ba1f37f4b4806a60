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

// erf(sqrt(s)) / sqrt(s) for s <= 1: error 1.2e-09 before rounding.
#define ERF_0 1.12837911f
#define ERF_1 -0.376126260f
#define ERF_2 0.112836003f
#define ERF_3 -0.0268544443f
#define ERF_4 0.00518953521f
#define ERF_5 -0.000802084105f
#define ERF_6 7.88911930e-05f

// ln erfc(t) for 0.95 <= t <= 4, weighted by erfc: error 2.8e-11 before rounding.
#define ERFC_0 0.000183444150f
#define ERFC_1 -1.12955678f
#define ERFC_2 -0.633262634f
#define ERFC_3 -0.108372480f
#define ERFC_4 0.0251789670f
#define ERFC_5 -0.00419361098f
#define ERFC_6 0.000439106370f
#define ERFC_7 -2.14961128e-05f
