"""Where the weights of torchvision's classification models lie.

Source: the files torchvision/models/*.py of torchvision 0.28.0, classes ``*_Weights``.
"""

from __future__ import annotations

#: Every file lies here.
ADDRESS = "https://download.pytorch.org/models/"

#: Class of weights, without ``_Weights`` -> names of weights, the default one first -> file.
FILES: dict[str, dict[str, str]] = {
    "AlexNet": {"IMAGENET1K_V1": "alexnet-owt-7be5be79.pth"},
    "ConvNeXt_Base": {"IMAGENET1K_V1": "convnext_base-6075fbad.pth"},
    "ConvNeXt_Large": {"IMAGENET1K_V1": "convnext_large-ea097f82.pth"},
    "ConvNeXt_Small": {"IMAGENET1K_V1": "convnext_small-0c510722.pth"},
    "ConvNeXt_Tiny": {"IMAGENET1K_V1": "convnext_tiny-983f1562.pth"},
    "DenseNet121": {"IMAGENET1K_V1": "densenet121-a639ec97.pth"},
    "DenseNet161": {"IMAGENET1K_V1": "densenet161-8d451a50.pth"},
    "DenseNet169": {"IMAGENET1K_V1": "densenet169-b2777c0a.pth"},
    "DenseNet201": {"IMAGENET1K_V1": "densenet201-c1103571.pth"},
    "EfficientNet_B0": {"IMAGENET1K_V1": "efficientnet_b0_rwightman-7f5810bc.pth"},
    "EfficientNet_B1": {
        "IMAGENET1K_V2": "efficientnet_b1-c27df63c.pth",
        "IMAGENET1K_V1": "efficientnet_b1_rwightman-bac287d4.pth",
    },
    "EfficientNet_B2": {"IMAGENET1K_V1": "efficientnet_b2_rwightman-c35c1473.pth"},
    "EfficientNet_B3": {"IMAGENET1K_V1": "efficientnet_b3_rwightman-b3899882.pth"},
    "EfficientNet_B4": {"IMAGENET1K_V1": "efficientnet_b4_rwightman-23ab8bcd.pth"},
    "EfficientNet_B5": {"IMAGENET1K_V1": "efficientnet_b5_lukemelas-1a07897c.pth"},
    "EfficientNet_B6": {"IMAGENET1K_V1": "efficientnet_b6_lukemelas-24a108a5.pth"},
    "EfficientNet_B7": {"IMAGENET1K_V1": "efficientnet_b7_lukemelas-c5b4e57e.pth"},
    "EfficientNet_V2_L": {"IMAGENET1K_V1": "efficientnet_v2_l-59c71312.pth"},
    "EfficientNet_V2_M": {"IMAGENET1K_V1": "efficientnet_v2_m-dc08266a.pth"},
    "EfficientNet_V2_S": {"IMAGENET1K_V1": "efficientnet_v2_s-dd5fe13b.pth"},
    "GoogLeNet": {"IMAGENET1K_V1": "googlenet-1378be20.pth"},
    "Inception_V3": {"IMAGENET1K_V1": "inception_v3_google-0cc3c7bd.pth"},
    "MaxVit_T": {"IMAGENET1K_V1": "maxvit_t-bc5ab103.pth"},
    "MNASNet0_5": {"IMAGENET1K_V1": "mnasnet0.5_top1_67.823-3ffadce67e.pth"},
    "MNASNet0_75": {"IMAGENET1K_V1": "mnasnet0_75-7090bc5f.pth"},
    "MNASNet1_0": {"IMAGENET1K_V1": "mnasnet1.0_top1_73.512-f206786ef8.pth"},
    "MNASNet1_3": {"IMAGENET1K_V1": "mnasnet1_3-a4c69d6f.pth"},
    "MobileNet_V2": {
        "IMAGENET1K_V2": "mobilenet_v2-7ebf99e0.pth",
        "IMAGENET1K_V1": "mobilenet_v2-b0353104.pth",
    },
    "MobileNet_V3_Large": {
        "IMAGENET1K_V2": "mobilenet_v3_large-5c1a4163.pth",
        "IMAGENET1K_V1": "mobilenet_v3_large-8738ca79.pth",
    },
    "MobileNet_V3_Small": {"IMAGENET1K_V1": "mobilenet_v3_small-047dcff4.pth"},
    "RegNet_X_16GF": {
        "IMAGENET1K_V2": "regnet_x_16gf-ba3796d7.pth",
        "IMAGENET1K_V1": "regnet_x_16gf-2007eb11.pth",
    },
    "RegNet_X_1_6GF": {
        "IMAGENET1K_V2": "regnet_x_1_6gf-a12f2b72.pth",
        "IMAGENET1K_V1": "regnet_x_1_6gf-e3633e7f.pth",
    },
    "RegNet_X_32GF": {
        "IMAGENET1K_V2": "regnet_x_32gf-6eb8fdc6.pth",
        "IMAGENET1K_V1": "regnet_x_32gf-9d47f8d0.pth",
    },
    "RegNet_X_3_2GF": {
        "IMAGENET1K_V2": "regnet_x_3_2gf-7071aa85.pth",
        "IMAGENET1K_V1": "regnet_x_3_2gf-f342aeae.pth",
    },
    "RegNet_X_400MF": {
        "IMAGENET1K_V2": "regnet_x_400mf-62229a5f.pth",
        "IMAGENET1K_V1": "regnet_x_400mf-adf1edd5.pth",
    },
    "RegNet_X_800MF": {
        "IMAGENET1K_V2": "regnet_x_800mf-94a99ebd.pth",
        "IMAGENET1K_V1": "regnet_x_800mf-ad17e45c.pth",
    },
    "RegNet_X_8GF": {
        "IMAGENET1K_V2": "regnet_x_8gf-2b70d774.pth",
        "IMAGENET1K_V1": "regnet_x_8gf-03ceed89.pth",
    },
    "RegNet_Y_128GF": {
        "IMAGENET1K_SWAG_E2E_V1": "regnet_y_128gf_swag-c8ce3e52.pth",
        "IMAGENET1K_SWAG_LINEAR_V1": "regnet_y_128gf_lc_swag-cbe8ce12.pth",
    },
    "RegNet_Y_16GF": {
        "IMAGENET1K_V2": "regnet_y_16gf-3e4a00f9.pth",
        "IMAGENET1K_V1": "regnet_y_16gf-9e6ed7dd.pth",
        "IMAGENET1K_SWAG_E2E_V1": "regnet_y_16gf_swag-43afe44d.pth",
        "IMAGENET1K_SWAG_LINEAR_V1": "regnet_y_16gf_lc_swag-f3ec0043.pth",
    },
    "RegNet_Y_1_6GF": {
        "IMAGENET1K_V2": "regnet_y_1_6gf-0d7bc02a.pth",
        "IMAGENET1K_V1": "regnet_y_1_6gf-b11a554e.pth",
    },
    "RegNet_Y_32GF": {
        "IMAGENET1K_V2": "regnet_y_32gf-8db6d4b5.pth",
        "IMAGENET1K_V1": "regnet_y_32gf-4dee3f7a.pth",
        "IMAGENET1K_SWAG_E2E_V1": "regnet_y_32gf_swag-04fdfa75.pth",
        "IMAGENET1K_SWAG_LINEAR_V1": "regnet_y_32gf_lc_swag-e1583746.pth",
    },
    "RegNet_Y_3_2GF": {
        "IMAGENET1K_V2": "regnet_y_3_2gf-9180c971.pth",
        "IMAGENET1K_V1": "regnet_y_3_2gf-b5a9779c.pth",
    },
    "RegNet_Y_400MF": {
        "IMAGENET1K_V2": "regnet_y_400mf-e6988f5f.pth",
        "IMAGENET1K_V1": "regnet_y_400mf-c65dace8.pth",
    },
    "RegNet_Y_800MF": {
        "IMAGENET1K_V2": "regnet_y_800mf-58fc7688.pth",
        "IMAGENET1K_V1": "regnet_y_800mf-1b27b58c.pth",
    },
    "RegNet_Y_8GF": {
        "IMAGENET1K_V2": "regnet_y_8gf-dc2b1b54.pth",
        "IMAGENET1K_V1": "regnet_y_8gf-d0d0e4a8.pth",
    },
    "ResNet101": {
        "IMAGENET1K_V2": "resnet101-cd907fc2.pth",
        "IMAGENET1K_V1": "resnet101-63fe2227.pth",
    },
    "ResNet152": {
        "IMAGENET1K_V2": "resnet152-f82ba261.pth",
        "IMAGENET1K_V1": "resnet152-394f9c45.pth",
    },
    "ResNet18": {"IMAGENET1K_V1": "resnet18-f37072fd.pth"},
    "ResNet34": {"IMAGENET1K_V1": "resnet34-b627a593.pth"},
    "ResNet50": {
        "IMAGENET1K_V2": "resnet50-11ad3fa6.pth",
        "IMAGENET1K_V1": "resnet50-0676ba61.pth",
    },
    "ResNeXt101_32X8D": {
        "IMAGENET1K_V2": "resnext101_32x8d-110c445d.pth",
        "IMAGENET1K_V1": "resnext101_32x8d-8ba56ff5.pth",
    },
    "ResNeXt101_64X4D": {"IMAGENET1K_V1": "resnext101_64x4d-173b62eb.pth"},
    "ResNeXt50_32X4D": {
        "IMAGENET1K_V2": "resnext50_32x4d-1a0047aa.pth",
        "IMAGENET1K_V1": "resnext50_32x4d-7cdf4587.pth",
    },
    "ShuffleNet_V2_X0_5": {"IMAGENET1K_V1": "shufflenetv2_x0.5-f707e7126e.pth"},
    "ShuffleNet_V2_X1_0": {"IMAGENET1K_V1": "shufflenetv2_x1-5666bf0f80.pth"},
    "ShuffleNet_V2_X1_5": {"IMAGENET1K_V1": "shufflenetv2_x1_5-3c479a10.pth"},
    "ShuffleNet_V2_X2_0": {"IMAGENET1K_V1": "shufflenetv2_x2_0-8be3c8ee.pth"},
    "SqueezeNet1_0": {"IMAGENET1K_V1": "squeezenet1_0-b66bff10.pth"},
    "SqueezeNet1_1": {"IMAGENET1K_V1": "squeezenet1_1-b8a52dc0.pth"},
    "Swin_B": {"IMAGENET1K_V1": "swin_b-68c6b09e.pth"},
    "Swin_S": {"IMAGENET1K_V1": "swin_s-5e29d889.pth"},
    "Swin_T": {"IMAGENET1K_V1": "swin_t-704ceda3.pth"},
    "Swin_V2_B": {"IMAGENET1K_V1": "swin_v2_b-781e5279.pth"},
    "Swin_V2_S": {"IMAGENET1K_V1": "swin_v2_s-637d8ceb.pth"},
    "Swin_V2_T": {"IMAGENET1K_V1": "swin_v2_t-b137f0e2.pth"},
    "VGG11_BN": {"IMAGENET1K_V1": "vgg11_bn-6002323d.pth"},
    "VGG11": {"IMAGENET1K_V1": "vgg11-8a719046.pth"},
    "VGG13_BN": {"IMAGENET1K_V1": "vgg13_bn-abd245e5.pth"},
    "VGG13": {"IMAGENET1K_V1": "vgg13-19584684.pth"},
    "VGG16_BN": {"IMAGENET1K_V1": "vgg16_bn-6c64b313.pth"},
    "VGG16": {
        "IMAGENET1K_V1": "vgg16-397923af.pth",
        "IMAGENET1K_FEATURES": "vgg16_features-amdegroot-88682ab5.pth",
    },
    "VGG19_BN": {"IMAGENET1K_V1": "vgg19_bn-c79401a0.pth"},
    "VGG19": {"IMAGENET1K_V1": "vgg19-dcbb9e9d.pth"},
    "ViT_B_16": {
        "IMAGENET1K_V1": "vit_b_16-c867db91.pth",
        "IMAGENET1K_SWAG_E2E_V1": "vit_b_16_swag-9ac1b537.pth",
        "IMAGENET1K_SWAG_LINEAR_V1": "vit_b_16_lc_swag-4e70ced5.pth",
    },
    "ViT_B_32": {"IMAGENET1K_V1": "vit_b_32-d86f8d99.pth"},
    "ViT_H_14": {
        "IMAGENET1K_SWAG_E2E_V1": "vit_h_14_swag-80465313.pth",
        "IMAGENET1K_SWAG_LINEAR_V1": "vit_h_14_lc_swag-c1eb923e.pth",
    },
    "ViT_L_16": {
        "IMAGENET1K_V1": "vit_l_16-852ce7e3.pth",
        "IMAGENET1K_SWAG_E2E_V1": "vit_l_16_swag-4f3808c9.pth",
        "IMAGENET1K_SWAG_LINEAR_V1": "vit_l_16_lc_swag-4d563306.pth",
    },
    "ViT_L_32": {"IMAGENET1K_V1": "vit_l_32-c7638314.pth"},
    "Wide_ResNet101_2": {
        "IMAGENET1K_V2": "wide_resnet101_2-d733dc28.pth",
        "IMAGENET1K_V1": "wide_resnet101_2-32ee1156.pth",
    },
    "Wide_ResNet50_2": {
        "IMAGENET1K_V2": "wide_resnet50_2-9ba9bcbe.pth",
        "IMAGENET1K_V1": "wide_resnet50_2-95faca4d.pth",
    },
}
